"""A graph is compared with config.json when it is opened, and every mismatch is one line."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx_ir as ir
import pytest

import pocketgpt
from pocketgpt import ModelFolderError
from pocketgpt.engine import contract
from pocketgpt.engine.graph import open_graph
from pocketgpt.folder.config import ModelConfig, read_config

GRAPH = Path("onnx/model.onnx")


def edit_config(folder: Path, **fields: Any) -> None:
    path = folder / "config.json"
    config = json.loads(path.read_text("utf-8"))
    path.write_text(json.dumps({**config, **fields}), "utf-8")


def refused(folder: Path) -> str:
    """Return the one line that a folder is refused by."""
    with pytest.raises(ModelFolderError) as caught:
        pocketgpt.load(folder, "fp32")
    message = str(caught.value)
    assert "\n" not in message
    assert "export the model again" in message
    return message


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"n_layer": 3}, "7 inputs and 5 outputs, and 3 layers make 9 and 7"),
        ({"n_layer": 10**9}, "7 inputs and 5 outputs"),
        ({"n_layer": 1}, "7 inputs and 5 outputs"),
        ({"n_head": 1}, "has 'past_key_values.0.key' of shape"),
        ({"n_head": 4}, "has 'past_key_values.0.key' of shape"),
        ({"n_embd": 64}, "has 'past_key_values.0.key' of shape"),
        ({"vocab_size": 401}, "has 'logits' of shape"),
        ({"n_positions": 95}, "has '96' positions, and config.json's n_positions is 95"),
        ({"n_positions": 10**6}, "has '96' positions"),
    ],
)
def test_sizes_equal_the_graphs(tiny_copy: Path, fields: dict[str, int], said: str) -> None:
    edit_config(tiny_copy, **fields)
    assert said in refused(tiny_copy)


def rename_input(graph: ir.Graph) -> None:
    graph.inputs[0].name = "ids"


def rename_output(graph: ir.Graph) -> None:
    graph.outputs[1].name = "present.key.0"


def retype_logits(graph: ir.Graph) -> None:
    cast = ir.node("Cast", [graph.outputs[0]], {"to": ir.DataType.FLOAT16})
    cast.outputs[0].type = ir.TensorType(ir.DataType.FLOAT16)
    cast.outputs[0].shape = graph.outputs[0].shape
    name, graph.outputs[0].name = graph.outputs[0].name, "wide"
    cast.outputs[0].name = name
    graph.append(cast)
    graph.outputs[0] = cast.outputs[0]


def another_default(graph: ir.Graph) -> None:
    keep = graph.inputs[-1]
    graph.initializers.pop(keep.name)  # type: ignore[arg-type]
    keep.name = "num_logits"
    graph.initializers.add(keep)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (rename_input, "lacks 'input_ids'"),
        (rename_output, "lacks 'present.0.key'"),
        (retype_logits, r"has 'logits' of tensor(float16), not tensor(float)"),
        (another_default, "takes num_logits, which no graph of ours does"),
    ],
)
def test_names_and_types_are_the_contracts(
    tiny_copy: Path, tmp_path: Path, change: Callable[[ir.Graph], None], said: str
) -> None:
    model = ir.load(tiny_copy / GRAPH)
    change(model.graph)
    path = tmp_path / "changed.onnx"
    ir.save(model, path, external_data="changed.onnx_data")
    with pytest.raises(ModelFolderError) as caught:
        open_graph(path, read_config(tiny_copy))
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_foreign_graph_is_refused(tmp_path: Path) -> None:
    x = ir.val("x", ir.DataType.FLOAT, [1, 4])
    node = ir.node("Relu", [x])
    node.outputs[0].name, node.outputs[0].type = "y", ir.TensorType(ir.DataType.FLOAT)
    graph = ir.Graph([x], node.outputs, nodes=[node], opset_imports={"": 21}, name="foreign")
    path = tmp_path / "foreign.onnx"
    ir.save(ir.Model(graph, ir_version=10), path)
    config = ModelConfig(n_layer=2, n_head=2, n_embd=16, n_positions=8, vocab_size=10)
    with pytest.raises(ModelFolderError, match="has 1 inputs and 1 outputs, and 2 layers make"):
        open_graph(path, config)


def test_the_exporters_graph_is_in_the_contracts_order(tiny_folder: Path) -> None:
    graph = ir.load(tiny_folder / GRAPH).graph
    names = [value.name for value in graph.inputs]
    assert names == [*contract.input_names(2), contract.NUM_LOGITS_TO_KEEP]
    assert [value.name for value in graph.outputs] == contract.output_names(2)
