"""The exported graph, operator by operator."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import onnx
import pytest

from pocketgpt_export.graph.trace import trace

if TYPE_CHECKING:
    from transformers import GPT2LMHeadModel

LAYERS = 2


@pytest.fixture(scope="module")
def model(tiny_folder: Path) -> onnx.ModelProto:
    return onnx.load(tiny_folder / "onnx" / "model.onnx", load_external_data=False)


def counts(model: onnx.ModelProto) -> Counter[str]:
    return Counter(node.op_type for node in model.graph.node)


def shape_of(value: onnx.ValueInfoProto) -> list[str | int]:
    """Dimensions: a name, or a number."""
    dims = value.type.tensor_type.shape.dim
    return [dim.dim_param or dim.dim_value for dim in dims]


def inside_layers(model: onnx.ModelProto) -> list[onnx.NodeProto]:
    """Nodes on a path from the embeddings to the last GroupQueryAttention, which is the last."""
    nodes = list(model.graph.node)
    tables = {tensor.name for tensor in model.graph.initializer if len(tensor.dims) == 2}
    after_embedding = {
        node.output[0] for node in nodes if node.op_type == "Gather" and node.input[0] in tables
    }
    assert len(after_embedding) == 2
    found: list[onnx.NodeProto] = []
    for node in nodes:
        if after_embedding & set(node.input):
            after_embedding |= set(node.output)
            found.append(node)
    while found[-1].op_type != "GroupQueryAttention":
        found.pop()
    return found


def test_operator_counts(model: onnx.ModelProto) -> None:
    found = counts(model)
    assert found["GroupQueryAttention"] == LAYERS
    assert found["MatMul"] == 4 * LAYERS
    assert found["FusedMatMul"] == 1
    assert found["FastGelu"] == LAYERS
    assert found["LayerNormalization"] == 2 * LAYERS + 1
    absent = {"Reshape", "Split", "Transpose", "Concat", "Expand", "Gemm", "Softmax", "Identity"}
    absent |= {"SkipLayerNormalization", "Gelu", "Tanh", "Pow", "Attention", "MultiHeadAttention"}
    assert absent & set(found) == set()


def test_a_layer_adds_no_shape_nor_reshape(
    model: onnx.ModelProto, make_gpt2: Callable[..., GPT2LMHeadModel], tmp_path: Path
) -> None:
    """Every layer adds the same eleven nodes or so, and none of them deals in shapes."""
    trace(make_gpt2(n_layer=LAYERS + 1), tmp_path / "model.onnx")
    larger = onnx.load(tmp_path / "model.onnx", load_external_data=False)
    assert counts(larger) - counts(model) == {
        "GroupQueryAttention": 1,
        "LayerNormalization": 2,
        "MatMul": 4,
        "Add": 6,  # four biases, two residuals
        "FastGelu": 1,
    }


def test_nothing_between_two_attentions_deals_in_shapes(model: onnx.ModelProto) -> None:
    between = {node.op_type for node in inside_layers(model)}
    assert between == {"GroupQueryAttention", "LayerNormalization", "MatMul", "Add", "FastGelu"}


def test_attention_takes_packed_queries_keys_and_values(model: onnx.ModelProto) -> None:
    attentions = [node for node in model.graph.node if node.op_type == "GroupQueryAttention"]
    producers = {output: node for node in model.graph.node for output in node.output}
    widths = {tensor.name: list(tensor.dims) for tensor in model.graph.initializer}
    for layer, node in enumerate(attentions):
        assert node.domain == "com.microsoft"
        packed, key, value, past_key, past_value, _, _ = node.input
        assert (key, value) == ("", "")
        assert past_key == f"past_key_values.{layer}.key"
        assert past_value == f"past_key_values.{layer}.value"
        assert list(node.output[1:]) == [f"present.{layer}.key", f"present.{layer}.value"]
        bias = producers[packed]
        assert bias.op_type == "Add"
        assert widths[bias.input[1]] == [3 * 128]
        attributes = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
        assert attributes.pop("scale") == pytest.approx(64**-0.5)
        assert attributes == {"num_heads": 2, "kv_num_heads": 2, "do_rotary": 0}


def test_lengths_are_computed_once(model: onnx.ModelProto) -> None:
    attentions = [node for node in model.graph.node if node.op_type == "GroupQueryAttention"]
    assert len({tuple(node.input[5:]) for node in attentions}) == 1
    assert counts(model)["ReduceSum"] == 1


def test_embedding_is_stored_once(model: onnx.ModelProto) -> None:
    (head,) = (node for node in model.graph.node if node.op_type == "FusedMatMul")
    gathers = [node for node in model.graph.node if node.op_type == "Gather"]
    (embedding,) = (node for node in gathers if node.input[1] == "input_ids")
    assert head.input[1] == embedding.input[0]
    shapes = [list(tensor.dims) for tensor in model.graph.initializer]
    assert shapes.count([400, 128]) == 1
    assert [128, 400] not in shapes


def test_weights_on_disk_are_the_parameters_and_no_more(
    tiny_folder: Path, tiny_reference: GPT2LMHeadModel
) -> None:
    parameters = 4 * sum(tensor.numel() for tensor in tiny_reference.parameters())
    on_disk = (tiny_folder / "onnx" / "model.onnx_data").stat().st_size
    assert parameters <= on_disk <= 1.01 * parameters


def test_inputs_and_outputs(model: onnx.ModelProto) -> None:
    kind = onnx.TensorProto
    tokens: list[str | int] = ["batch_size", "sequence_length"]
    past: list[str | int] = ["batch_size", 2, "past_sequence_length", 64]
    present: list[str | int] = ["batch_size", 2, "total_sequence_length", 64]
    cache = [f"{layer}.{side}" for layer in range(LAYERS) for side in ("key", "value")]
    expected_inputs = {
        "input_ids": (kind.INT64, tokens),
        "attention_mask": (kind.INT64, ["batch_size", "total_sequence_length"]),
        "position_ids": (kind.INT64, tokens),
        **{f"past_key_values.{name}": (kind.FLOAT, past) for name in cache},
        "num_logits_to_keep": (kind.INT64, []),
    }
    expected_outputs = {
        "logits": (kind.FLOAT, ["batch_size", 1, 400]),
        **{f"present.{name}": (kind.FLOAT, present) for name in cache},
    }
    for values, expected in (
        (model.graph.input, expected_inputs),
        (model.graph.output, expected_outputs),
    ):
        found = {v.name: (v.type.tensor_type.elem_type, shape_of(v)) for v in values}
        assert found == expected
        assert list(found) == list(expected)


def test_num_logits_to_keep_has_a_default_of_1(model: onnx.ModelProto) -> None:
    (default,) = (t for t in model.graph.initializer if t.name == "num_logits_to_keep")
    assert onnx.numpy_helper.to_array(default).tolist() == 1
    assert list(default.dims) == []


@pytest.mark.parametrize("variant", ["model", "model_int8", "model_q4"])
def test_all_variants_have_the_same_face(
    model: onnx.ModelProto, tiny_folder: Path, variant: str
) -> None:
    other = onnx.load(tiny_folder / "onnx" / f"{variant}.onnx", load_external_data=False)
    for mine, theirs in (
        (model.graph.input, other.graph.input),
        (model.graph.output, other.graph.output),
    ):
        assert [v.SerializeToString() for v in mine] == [v.SerializeToString() for v in theirs]


@pytest.mark.parametrize("variant", ["model", "model_int8", "model_q4"])
def test_no_word_of_the_machine_it_was_made_on(tiny_folder: Path, variant: str) -> None:
    content = (tiny_folder / "onnx" / f"{variant}.onnx").read_bytes()
    for trace_of_it in (
        b".py",
        b"site-packages",
        b"/home",
        b"/usr",
        b"/tmp",
        b"graph.py",
        b"File ",
    ):
        assert trace_of_it not in content
    assert str(tiny_folder.parent).encode() not in content
    assert str(Path.cwd()).encode() not in content


@pytest.mark.parametrize("variant", ["model", "model_int8", "model_q4"])
def test_weights_lie_in_one_file_beside(tiny_folder: Path, variant: str) -> None:
    graph = onnx.load(tiny_folder / "onnx" / f"{variant}.onnx", load_external_data=False).graph
    places = {
        entry.value
        for tensor in graph.initializer
        for entry in tensor.external_data
        if entry.key == "location"
    }
    assert places == {f"{variant}.onnx_data"}
