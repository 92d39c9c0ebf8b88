"""Attention the faster way: ONNX Runtime's own numbers of either way, bit by bit."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pocketgpt import ModelFolderError, load
from pocketgpt.engine.attention import MOST_TILED, with_chosen_attention
from pocketgpt.engine.form import form_of
from pocketgpt.engine.graph import Graph, open_graph
from pocketgpt.engine.ragged import with_query_lengths
from pocketgpt.folder.config import read_config
from pocketgpt.folder.files import stored

from .conftest import needs_query_lengths

WHOLE = "ORT_GQA_DISABLE_FLASH_ATTENTION"  # ONNX Runtime's switch, read when a session is made
PROMPT, CHUNK = 60, 2 * MOST_TILED


@pytest.fixture(autouse=True)
def no_switch(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Leave ONNX Runtime the choice, and take the small model for a wide one."""
    monkeypatch.delenv(WHOLE, raising=False)
    monkeypatch.setattr("pocketgpt.engine.attention.WIDE", 0)
    return monkeypatch


def opened(folder: Path, name: str, *, tuned: bool = False) -> Graph:
    return open_graph(folder / "onnx" / name, read_config(folder), threads=1, tuned=tuned)


def many(graph: Graph) -> np.ndarray:
    """Return the logits after every token of a prompt, its second chunk behind the first."""
    ids = np.random.default_rng(1).integers(0, 400, PROMPT + CHUNK).tolist()
    decoder = graph.decoder()
    return np.concatenate([decoder.score(ids[:PROMPT]), decoder.score(ids[PROMPT:])])


def few(graph: Graph) -> np.ndarray:
    """Return the logits of steps and of a chunk of few tokens, where all behind is few, too."""
    decoder = graph.decoder()
    ids = np.random.default_rng(2).integers(0, 400, 3 * MOST_TILED).tolist()
    found = [decoder.score(ids[at : at + MOST_TILED]).copy() for at in (0, MOST_TILED)]
    found += [decoder.step(token).copy() for token in ids[2 * MOST_TILED :]]
    return np.concatenate(found)


@needs_query_lengths
@pytest.mark.parametrize("name", ["model.onnx", "model_int8.onnx", "model_q4.onnx"])
def test_a_float_cache_is_tiled_for_few_tokens_alone(
    tiny_folder: Path, name: str, no_switch: pytest.MonkeyPatch
) -> None:
    chosen, tiled = opened(tiny_folder, name, tuned=True), opened(tiny_folder, name)
    no_switch.setenv(WHOLE, "1")
    whole = opened(tiny_folder, name)
    np.testing.assert_array_equal(few(chosen), few(tiled))
    np.testing.assert_array_equal(many(chosen), many(whole))
    assert (many(tiled) != many(whole)).any()
    assert (few(tiled) != few(whole)).any()


@needs_query_lengths
def test_an_8_bit_cache_is_never_tiled(tiny_folder: Path, no_switch: pytest.MonkeyPatch) -> None:
    name = "model_int8_int8_cache.onnx"
    chosen, tiled = opened(tiny_folder, name, tuned=True), opened(tiny_folder, name)
    no_switch.setenv(WHOLE, "1")
    whole = opened(tiny_folder, name)
    for run in (few, many):
        np.testing.assert_array_equal(run(chosen), run(whole))
        assert (run(tiled) != run(whole)).any()


@needs_query_lengths
def test_a_loaded_model_goes_the_faster_way(tiny_folder: Path) -> None:
    graph = load(tiny_folder, "fp32", kv_cache="float", threads=1).graph
    np.testing.assert_array_equal(many(graph), many(opened(tiny_folder, "model.onnx", tuned=True)))


def test_a_narrow_model_is_tiled(tiny_folder: Path, no_switch: pytest.MonkeyPatch) -> None:
    config = read_config(tiny_folder)
    plain, cached = (
        (tiny_folder / "onnx" / name).read_bytes()
        for name in ("model.onnx", "model_int8_int8_cache.onnx")
    )
    no_switch.setattr("pocketgpt.engine.attention.WIDE", config.n_embd + 1)
    assert with_chosen_attention(plain, config) == plain
    assert b"attention.sink" in with_chosen_attention(cached, config)
    no_switch.setattr("pocketgpt.engine.attention.WIDE", config.n_embd)
    assert b"attention.sink" in with_chosen_attention(plain, config)


def test_the_file_is_what_onnx_reads(tiny_folder: Path) -> None:
    import onnx

    path = tiny_folder / "onnx" / "model.onnx"
    config = read_config(tiny_folder)
    source = onnx.load(path, load_external_data=False)
    content = with_chosen_attention(with_query_lengths(path.read_bytes()), config)
    found = onnx.ModelProto.FromString(content)
    attentions = {n.output[0]: n for n in source.graph.node if n.op_type == "GroupQueryAttention"}
    choices = [node for node in found.graph.node if node.op_type == "If"]
    assert {node.output[0] for node in choices} == set(attentions)
    for choice in choices:
        (tiled,), (whole,) = (attribute.g.node for attribute in choice.attribute)
        plain = attentions[choice.output[0]]
        assert [*choice.input] == ["few_tokens"]
        assert tiled.attribute == whole.attribute == plain.attribute
        assert tiled.input[:7] == whole.input[:7] == plain.input[:7]
        assert (tiled.input[11], whole.input[11]) == ("", "attention.sink")
        assert tiled.input[16] == whole.input[16] == "query_lengths"
    (sink,) = (one for one in found.graph.initializer if one.name == "attention.sink")
    assert onnx.numpy_helper.to_array(sink).tolist() == [np.float32(-1e30)] * config.n_head


def test_a_float16_cache_stays_as_it_is(tiny_folder: Path) -> None:
    import onnx

    path = tiny_folder / "onnx" / "model.onnx"
    model = onnx.load(path, load_external_data=False)
    for value in [*model.graph.input, *model.graph.output]:
        if value.name.startswith(("past", "present")):
            value.type.tensor_type.elem_type = onnx.TensorProto.FLOAT16
    content = model.SerializeToString()
    assert with_chosen_attention(content, read_config(tiny_folder)) == content


def test_other_files_are_refused_or_left(tiny_folder: Path, tmp_path: Path) -> None:
    content = (tiny_folder / "onnx" / "model.onnx").read_bytes()
    config = read_config(tiny_folder)
    with pytest.raises(ModelFolderError, match="cannot be chosen"):
        with_chosen_attention(content[:-300], config)
    assert form_of(stored(tmp_path / "missing.onnx"), None, True, config) == (None, None)
