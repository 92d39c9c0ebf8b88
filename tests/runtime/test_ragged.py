"""Graphs whose rows have chunks of different lengths: the plain graph's numbers, bit by bit."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pocketgpt import ModelFolderError
from pocketgpt.engine.form import form_of
from pocketgpt.engine.graph import Graph, open_graph
from pocketgpt.engine.ragged import with_query_lengths, write_ragged_graph
from pocketgpt.folder.config import read_config
from pocketgpt.folder.files import stored

from .conftest import needs_query_lengths

VARIANTS = ("model.onnx", "model_int8.onnx", "model_q4.onnx", "model_int8_int8_cache.onnx")


def opened(folder: Path, name: str, *, ragged: bool) -> Graph:
    path = folder / "onnx" / name
    if ragged:
        write_ragged_graph(path, path.with_name(f"ragged_{name}"))
        path = path.with_name(f"ragged_{name}")
    return open_graph(path, read_config(folder))


@needs_query_lengths
@pytest.mark.parametrize("name", VARIANTS)
def test_steps_and_chunks_are_the_plain_graphs(tiny_copy: Path, name: str) -> None:
    random = np.random.default_rng(1)
    prompts = [random.integers(0, 400, length).tolist() for length in (20, 3, 17)]
    found = []
    for ragged in (False, True):
        decoder = opened(tiny_copy, name, ragged=ragged).decoder(3)
        assert (decoder.widest > 1) == ragged
        logits = [decoder.fill(prompts).copy()]
        logits += [decoder.step([1, 2, 3]).copy() for _ in range(5)]
        logits.append(decoder.append([5, 6, 7], 1).copy())
        logits.append(decoder.score([8, 9], 2).copy())
        logits.append(decoder.step([1, 2, 3]).copy())
        found.append(logits)
    for one, other in zip(*found, strict=True):
        np.testing.assert_array_equal(one, other)


@needs_query_lengths
@pytest.mark.parametrize("name", VARIANTS)
def test_rows_are_checked_together_as_alone(tiny_copy: Path, name: str) -> None:
    """Products over several rows round otherwise than those over one."""
    graph = opened(tiny_copy, name, ragged=True)
    random = np.random.default_rng(2)
    prompts = [random.integers(0, 400, length).tolist() for length in (20, 3, 88)]
    chunks = [random.integers(0, 400, length).tolist() for length in (1, 9, 8)]
    decoder = graph.decoder(3)
    decoder.fill(prompts)
    for chunk, prompt, logits in zip(chunks, prompts, decoder.check(chunks), strict=True):
        alone = graph.decoder()
        alone.prefill(prompt)
        expected = alone.score(chunk)
        tolerance = 0.1 * float(expected.std()) if "q4" in name else 1e-3
        np.testing.assert_allclose(logits, expected, atol=tolerance)
    assert decoder.evaluated_tokens == 111 + 18


@needs_query_lengths
def test_a_written_graph_is_what_is_opened_in_memory(tiny_copy: Path) -> None:
    source, target = tiny_copy / "onnx" / "model_int8.onnx", tiny_copy / "onnx" / "ragged.onnx"
    write_ragged_graph(source, target)
    made = form_of(stored(source), None, True, read_config(tiny_copy))
    assert made == (target.read_bytes(), source.parent)
    assert 0 < target.stat().st_size - source.stat().st_size < 2000
    decoder = open_graph(target, read_config(tiny_copy)).decoder(2)
    assert decoder.widest > 1
    assert [len(logits) for logits in decoder.check([[1, 2], [3]])] == [2, 1]


def test_the_file_is_what_onnx_reads(tiny_folder: Path) -> None:
    import onnx

    source = tiny_folder / "onnx" / "model.onnx"
    plain = onnx.load(source, load_external_data=False)
    found = onnx.ModelProto.FromString(with_query_lengths(source.read_bytes()))
    added = found.graph.input[-1]
    assert (added.name, added.type.tensor_type.elem_type) == ("query_lengths", 6)
    assert added.type.tensor_type.shape.dim[0].dim_param == "batch_size"
    for node in found.graph.node:
        if node.op_type == "GroupQueryAttention":
            assert (len(node.input), node.input[16]) == (17, "query_lengths")
            del node.input[7:]
    del found.graph.input[-1]
    for node in plain.graph.node:
        if node.op_type == "GroupQueryAttention":
            del node.input[7:]
    assert found == plain


def test_other_files_stay_as_they_are(tiny_folder: Path, tmp_path: Path) -> None:
    source = tiny_folder / "onnx" / "model.onnx"
    for content in (b"", b"no ONNX", source.read_bytes()[:-300], b"\x80" * 9):
        with pytest.raises(ModelFolderError, match="rows of different lengths"):
            with_query_lengths(content)
    with pytest.raises(ModelFolderError, match="already"):
        with_query_lengths(with_query_lengths(source.read_bytes()))
    assert form_of(stored(tmp_path / "missing.onnx"), None, True, read_config(tiny_folder)) == (
        None,
        None,
    )
