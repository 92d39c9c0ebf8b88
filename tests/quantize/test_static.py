"""`int8_static`: the portable graph in QDQ form. Run where optimum-onnx is installed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import onnxruntime as ort
import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel

import pocketgpt
from pocketgpt import QuantizationError
from pocketgpt.folder.manifest import read_manifest, variant_path
from pocketgpt_export import export
from pocketgpt_quantize import quantize
from pocketgpt_quantize.graph.qdq import Grid, by_channel, least_scales

from .conftest import small_tokenizer, text_of

pytestmark = pytest.mark.filterwarnings("ignore")  # the older tracer's own

NAME = "int8_static"
CONFIGURATIONS: dict[str, dict[str, Any]] = {
    "flags": {
        "scale_attn_by_inverse_layer_idx": True,
        "reorder_and_upcast_attn": True,
        "activation_function": "quick_gelu",
        "n_inner": 40,
    },
    "untied": {"tie_word_embeddings": False, "activation_function": "gelu"},
    "relu": {"scale_attn_weights": False, "activation_function": "relu"},
}


@pytest.fixture(scope="module")
def portable(exported: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The trained model's portable folder, with the variant; not to be changed."""
    pytest.importorskip("optimum.exporters.onnx")
    folder = tmp_path_factory.mktemp("static") / "model"
    export(exported.parent / "checkpoint", folder, graph="portable")
    quantize(folder, [NAME])
    return folder


@pytest.fixture(scope="module")
def graph(portable: Path) -> ir.Graph:
    return ir.load(portable / variant_path(NAME)).graph


def test_it_holds_its_gate(portable: Path) -> None:
    variant = read_manifest(portable).variants[NAME]
    assert abs(variant.quality["loss"]) < 0.02
    assert variant.max_loss == 0.02
    assert variant.quality["top1_agreement"] > 0.9
    assert variant.calibration_sha256 is not None
    assert set(variant.bits.values()) == {8}
    assert set(variant.bits) == set(read_manifest(portable).variants["fp32"].bits)


def test_every_float_between_two_operators_is_rounded(graph: ir.Graph) -> None:
    """But for the lookups, whose rows are restored from 8 bits before they are rounded."""
    seen = 0
    for node, value in floats_read(graph):
        producer = value.producer()
        if node.op_type != "QuantizeLinear" and not is_lookup(node):
            assert producer is not None, f"{node.name} reads {value.name} unrounded"
            assert producer.op_type == "DequantizeLinear", (node.name, value.name)
            seen += 1
    assert seen > 50
    for value in graph.outputs:
        producer = value.producer()
        assert producer is not None
        assert producer.op_type == "DequantizeLinear", value.name


def floats_read(graph: ir.Graph) -> Iterator[tuple[ir.Node, ir.Value]]:
    """Yield every float that a node other than DequantizeLinear computes with."""
    known = {value for value in graph.inputs if value.dtype == ir.DataType.FLOAT}
    for node in graph:
        reads = [value for value in node.inputs if value in known]
        if node.op_type != "Shape":
            yield from ((node, value) for value in reads if value is not None)
        if node.op_type == "DequantizeLinear" or (
            reads and node.op_type not in ("Shape", "QuantizeLinear")
        ):
            known.update(node.outputs)


def is_lookup(node: ir.Node) -> bool:
    """Whether a node turns looked-up rows into floats."""
    return node.op_type == "Mul" and any(
        value is not None and value.producer() is not None and value.producer().op_type == "Cast"  # type: ignore[union-attr]
        for value in node.inputs
    )


def test_what_rounds_has_16_bits(graph: ir.Graph) -> None:
    zeros = [node.inputs[2] for node in graph if node.op_type == "QuantizeLinear"]
    assert {value.dtype for value in zeros if value is not None} == {ir.DataType.UINT16}


def test_the_embedding_is_stored_once(graph: ir.Graph, portable: Path) -> None:
    tensors = {name: value.const_value for name, value in graph.initializers.items()}
    table = {name: t for name, t in tensors.items() if name.startswith("transformer.wte.weight")}
    rows, packed = (table[f"transformer.wte.weight.{word}"] for word in ("rows", "packed"))
    assert isinstance(rows, ir.ExternalTensor)
    assert isinstance(packed, ir.ExternalTensor)
    assert (rows.offset, rows.length) == (packed.offset, packed.length)
    assert not any(value.uses() == () for value in graph.initializers.values())


def test_the_cache_comes_back_as_it_went_in(portable: Path) -> None:
    """Its numbers lie on one grid: they are not rounded anew, and worse, at every step."""
    session = ort.InferenceSession(portable / variant_path(NAME))
    names = [o.name for o in session.get_outputs()][1:]
    ids = np.arange(12)[None]
    cache = {
        i.name: np.zeros((1, i.shape[1], 0, i.shape[3]), np.float32)
        for i in session.get_inputs()
        if i.name.startswith("past")
    }
    first = session.run(names, feeds(ids, 0) | cache)
    past = {n.replace("present", "past_key_values"): a for n, a in zip(names, first, strict=True)}
    second = session.run(names, feeds(ids[:, :1], 12) | past)
    for before, after in zip(first, second, strict=True):
        np.testing.assert_array_equal(after[:, :, :12], before)


def feeds(ids: np.ndarray, past: int) -> dict[str, Any]:
    batch, count = ids.shape
    positions = np.broadcast_to(np.arange(past, past + count), ids.shape)
    mask = np.ones((batch, past + count), np.int64)
    return {"input_ids": ids, "position_ids": positions.copy(), "attention_mask": mask}


def test_rows_keep_apart_whatever_their_lengths(portable: Path) -> None:
    model = pocketgpt.load(portable, NAME)
    prompts = [[5, 9, 200, 31, 7], [40, 41], [8] * 11]
    decoder = model.new_decoder(3)
    together = decoder.fill(prompts).copy()
    for row, prompt in enumerate(prompts):
        alone = model.new_decoder().prefill(prompt)
        np.testing.assert_array_equal(together[row].argmax(), alone[0].argmax())
        tolerance = read_manifest(portable).variants[NAME].tolerance
        assert tolerance is not None
        assert np.abs(together[row] - alone[0]).max() <= tolerance


def test_it_generates(portable: Path) -> None:
    model = pocketgpt.load(portable, NAME, verify=True)
    result = model.generate("the king said", max_new_tokens=20)
    assert len(result.token_ids) == 20


def random_folder(folder: Path, change: Callable[[GPT2LMHeadModel], None], **fields: Any) -> Path:
    """Export a small model whose random weights are large enough for attention to matter."""
    pytest.importorskip("optimum.exporters.onnx")
    torch.manual_seed(0)
    tokenizer = small_tokenizer()
    shape = {"n_embd": 36, "n_layer": 2, "n_head": 3, "n_positions": 64, "initializer_range": 0.2}
    config = GPT2Config(
        vocab_size=len(tokenizer), bos_token_id=0, eos_token_id=0, **{**shape, **fields}
    )
    model = GPT2LMHeadModel(config)
    change(model)
    model.save_pretrained(folder / "checkpoint")
    tokenizer.save_pretrained(folder / "checkpoint")
    for index, text in enumerate(("evaluation.txt", "calibration.txt")):
        (folder / "checkpoint" / text).write_text(text_of(index, 200), "utf-8")
    export(folder / "checkpoint", folder / "model", graph="portable")
    return folder / "model"


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_other_configurations(name: str, tmp_path: Path) -> None:
    folder = random_folder(tmp_path, lambda model: None, **CONFIGURATIONS[name])
    (report,) = quantize(folder, [NAME], accept_loss=True)
    assert report.installed
    assert report.variant.quality["kl_mean"] < 2e-3


def test_equal_matrices_with_other_biases(tmp_path: Path) -> None:
    """Optimum stores them once; the scales have to suit every bias."""

    def zero(model: GPT2LMHeadModel) -> None:
        for name, parameter in model.named_parameters():
            if name.endswith("attn.c_proj.weight"):
                parameter.data.zero_()
            elif name.endswith("attn.c_proj.bias"):
                parameter.data.normal_()

    (report,) = quantize(random_folder(tmp_path, zero), [NAME], accept_loss=True)
    assert report.variant.quality["kl_mean"] < 2e-3


def test_each_graph_has_its_variants(portable: Path, exported: Path) -> None:
    with pytest.raises(QuantizationError, match="int8_static is made from a portable one"):
        quantize(exported, [NAME])
    with pytest.raises(QuantizationError, match="int8 is made from a fused one"):
        quantize(portable, ["int8"])


def test_grid() -> None:
    assert Grid.over(0.0, 65535.0) == Grid(1.0, 0)
    assert Grid.over(-1.0, 3.0) == Grid(4 / 65535, 16384)
    assert Grid.over(2.0, 5.0).zero == 0
    assert Grid.over(-5.0, -2.0).zero == 65535
    assert Grid.over(0.0, 0.0).scale > 0


def test_by_channel() -> None:
    weight = np.array([[1.27, -0.5], [0.02, -2.54], [0, 0]], np.float32)
    rows = by_channel(weight, 0, 1e-20)
    np.testing.assert_allclose(rows.scales[:2], [0.01, 0.02], rtol=1e-6)
    np.testing.assert_array_equal(rows.numbers, [[127, -50], [1, -127], [0, 0]])
    columns = by_channel(weight, 1, 1e-20)
    np.testing.assert_allclose(columns.scales, [0.01, 0.02], rtol=1e-6)
    np.testing.assert_array_equal(columns.numbers, [[127, -25], [2, -127], [0, 0]])


def test_a_bias_too_large_for_its_scale_widens_it() -> None:
    least = least_scales(np.array([0, 1e6], np.float32), 1e-4)
    assert least[1] == pytest.approx(1e6 / (1e-4 * 2**30))
    channels = by_channel(np.eye(2, dtype=np.float32), 0, least)
    assert channels.scales[0] == pytest.approx(1 / 127)
    assert channels.scales[1] == pytest.approx(least[1])
