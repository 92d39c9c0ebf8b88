"""The quantized graphs: their operators, their bytes, and their products against PyTorch's."""

from __future__ import annotations

import copy
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import pytest
import torch
from numpy.typing import NDArray

import pocketgpt

if TYPE_CHECKING:
    from transformers import GPT2LMHeadModel

FORMATS = {  # bits and block size, by kind of weight
    "int8": {"layer": (8, 32), "embedding": (8, 32), "positions": (8, 32)},
    "q4": {"layer": (4, 32), "embedding": (4, 16), "positions": (8, 32)},
}
Place = tuple[int, int]  # offset and length within the weights file


@pytest.fixture(scope="module", params=list(FORMATS))
def variant(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def graph(tiny_folder: Path, variant: str) -> onnx.GraphProto:
    path = tiny_folder / "onnx" / f"model_{variant}.onnx"
    return onnx.load(path, load_external_data=False).graph


def format_of(name: str, variant: str) -> tuple[int, int]:
    """Bits and block size of the weight that a tensor belongs to."""
    places = {"transformer.wpe.weight": "positions", "transformer.wte.weight": "embedding"}
    return FORMATS[variant][places.get(name.rpartition(".")[0], "layer")]


def attributes(node: onnx.NodeProto) -> dict[str, Any]:
    return {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}


def places(graph: onnx.GraphProto) -> dict[str, Place]:
    found = {}
    for tensor in graph.initializer:
        if tensor.data_location == onnx.TensorProto.EXTERNAL:
            entries = {entry.key: entry.value for entry in tensor.external_data}
            found[tensor.name] = int(entries["offset"]), int(entries["length"])
    return found


def test_operators(graph: onnx.GraphProto, variant: str) -> None:
    found = Counter(node.op_type for node in graph.node)
    assert found["MatMulNBits"] == 4 * 2 + 1
    assert found["GatherBlockQuantized"] == 2
    assert found["GroupQueryAttention"] == 2
    left_over = {"MatMul", "FusedMatMul", "Reshape", "DequantizeLinear", "Transpose"}
    assert left_over & set(found) == set()
    for node in graph.node:
        if node.op_type == "MatMulNBits":
            has = attributes(node)
            expected = format_of(node.input[1], variant)
            assert (has["bits"], has["block_size"]) == expected
            assert has["accuracy_level"] == 4
        if node.op_type == "GatherBlockQuantized":
            has = attributes(node)
            assert (has["bits"], has["block_size"]) == format_of(node.input[0], variant)


def test_biases_go_into_the_products(graph: onnx.GraphProto) -> None:
    products = [node for node in graph.node if node.op_type == "MatMulNBits"]
    biases = [node.input[5] for node in products]
    assert sum(name.endswith(".bias") for name in biases) == 8
    assert biases[-1] == "transformer.wte.weight.offset"  # the head's, from its folded inputs


def test_scales_are_half_precision(graph: onnx.GraphProto) -> None:
    widened = {n.output[0]: n.input[0] for n in graph.node if n.op_type == "Cast"}
    stored = {tensor.name: tensor.data_type for tensor in graph.initializer}
    readers = [n for n in graph.node if n.op_type in ("MatMulNBits", "GatherBlockQuantized")]
    for node in readers:
        assert stored[widened[node.input[2]]] == onnx.TensorProto.FLOAT16


def test_embedding_and_head_read_the_same_bytes(graph: onnx.GraphProto, variant: str) -> None:
    (lookup,) = (
        node
        for node in graph.node
        if node.op_type == "GatherBlockQuantized" and "wpe" not in node.input[0]
    )
    (head,) = (node for node in graph.node if "logits" in node.output)
    assert head.op_type == "MatMulNBits"
    place = places(graph)
    assert place[lookup.input[0]] == place[head.input[1]]
    assert place[head.input[1]][1] == 400 * 128 * FORMATS[variant]["embedding"][0] // 8
    assert list(lookup.input[2:4]) == list(head.input[2:4])


def test_the_weights_file_has_no_gap(
    graph: onnx.GraphProto, tiny_folder: Path, variant: str
) -> None:
    """Every byte belongs to a tensor, and none to two but the embedding's."""
    distinct = sorted(set(places(graph).values()))
    end = 0
    for offset, length in distinct:
        assert end <= offset <= end + 64, "overlapping tensors, or a gap"
        end = offset + length
    assert (tiny_folder / "onnx" / f"model_{variant}.onnx_data").stat().st_size == end


def test_every_matrix_is_stored_once(graph: onnx.GraphProto) -> None:
    stored = {t.name: t for t in graph.initializer if t.name.endswith((".packed", ".rows"))}
    assert len(stored) == 4 * 2 + 3  # the embedding's bytes have two names
    assert {t.data_type for t in stored.values()} == {onnx.TensorProto.UINT8}
    assert len({places(graph)[name] for name in stored}) == 4 * 2 + 2
    left = [
        t.name
        for t in graph.initializer
        if t.data_type == onnx.TensorProto.FLOAT and len(t.dims) == 2 and "scales" not in t.name
    ]
    assert left == []


def numbers(packed: NDArray[np.uint8], bits: int) -> NDArray[np.float32]:
    """Stored numbers `[out, ...]`, from rows of bytes, the low half first."""
    rows = packed.reshape(len(packed), -1)
    if bits == 4:
        rows = np.stack([rows & 15, rows >> 4], axis=-1).reshape(len(rows), -1)
    return rows.astype(np.float32)


def dequantized(folder: Path, variant: str) -> dict[str, NDArray[np.float32]]:
    """Every quantized matrix as `[out, in]`, read from the file by hand."""
    graph = onnx.load(folder / "onnx" / f"model_{variant}.onnx").graph
    tensors = {t.name: onnx.numpy_helper.to_array(t) for t in graph.initializer}
    found = {}
    for name, scales in tensors.items():
        if not name.endswith(".scales.half"):
            continue
        weight = name.removesuffix(".scales.half")
        bits = format_of(f"{weight}.packed", variant)[0]
        ending = "packed" if f"{weight}.packed" in tensors else "rows"
        stored = numbers(tensors[f"{weight}.{ending}"], bits).reshape(*scales.shape, -1)
        zeros = np.full(scales.shape, 2.0 ** (bits - 1), np.float32)
        if f"{weight}.zero_points" in tensors:
            zeros = numbers(tensors[f"{weight}.zero_points"], bits)[:, : scales.shape[1]]
        values = (stored - zeros[..., None]) * scales[..., None].astype(np.float32)
        found[weight] = values.reshape(len(values), -1)
    return found


def stored_model(folder: Path, variant: str, reference: GPT2LMHeadModel) -> GPT2LMHeadModel:
    """Return PyTorch's model with all that a variant stores; folded head and embedding differ."""
    model = copy.deepcopy(reference)
    graph = onnx.load(folder / "onnx" / f"model_{variant}.onnx").graph
    tensors = {t.name: onnx.numpy_helper.to_array(t) for t in graph.initializer}
    matrices = dequantized(folder, variant)
    assert len(matrices) == 4 * 2 + 2
    embedding = matrices.pop("transformer.wte.weight")
    head = torch.nn.Linear(*embedding.shape[::-1])
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name in matrices:
                looked_up = name == "transformer.wpe.weight"
                matrix = matrices[name] if looked_up else matrices[name].T
                parameter.copy_(torch.tensor(matrix))
            elif name != "transformer.wte.weight":
                parameter.copy_(torch.tensor(tensors[name]))
        inverse = tensors["transformer.wte.weight.inverse_scale"]
        model.transformer.wte.weight = torch.nn.Parameter(torch.tensor(embedding * inverse))
        head.weight.copy_(torch.tensor(embedding))
        offset = tensors["transformer.wte.weight.offset.half"]
        head.bias.copy_(torch.tensor(offset.astype(np.float32)))
    model.lm_head = head
    return model


def test_logits_are_those_of_the_dequantized_weights(
    tiny_folder: Path, tiny_reference: GPT2LMHeadModel, variant: str
) -> None:
    """In PyTorch with the stored numbers; what is left between them is 8-bit activations."""
    reference = stored_model(tiny_folder, variant, tiny_reference)
    ids = np.random.default_rng(2).integers(0, 400, 60).tolist()
    with torch.inference_mode():
        expected = reference(torch.tensor([ids])).logits[0].numpy()
        original = tiny_reference(torch.tensor([ids])).logits[0].numpy()
    model = pocketgpt.load(tiny_folder, variant, kv_cache="float")
    decoder = model.new_decoder()
    stepped = np.concatenate([decoder.step(i).copy() for i in ids])
    for found in (model.new_decoder().score(ids), stepped):
        off = np.linalg.norm(found - expected) / np.linalg.norm(expected)
        assert off < 0.05
        if variant == "q4":  # where rounding the weights shows
            assert off < 0.5 * np.linalg.norm(found - original) / np.linalg.norm(original)
