"""The fp32 graph once more, with places for LoRA adapters, over the same weights.

Each product of a layer gives `x @ W + b + x @ lora_A @ lora_B`. The two are inputs with defaults of
rank 0: whoever runs the graph may leave them out, and then nothing is added.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx_ir as ir

from pocketgpt.engine.contract import LORA_A, LORA_B, PRODUCTS


def write_adapter_graph(source: Path, target: Path) -> None:
    """Write the fused fp32 graph `source` with places for adapters; its weights stay in place."""
    model = ir.load(source)
    # Told by their order: a weight equal to another has that one's name. The head is no MatMul.
    products = [node for node in model.graph if node.op_type == "MatMul"]
    for index, product in enumerate(products):
        layer, place = divmod(index, len(PRODUCTS))
        _add_place(model.graph, f"transformer.h.{layer}.{PRODUCTS[place]}", product)
    ir.save(model, target)


def _add_place(graph: ir.Graph, name: str, product: ir.Node) -> None:
    read, weight = product.inputs
    assert weight is not None
    assert weight.is_initializer()
    assert weight.shape is not None
    width_in, width_out = weight.shape.numpy()
    # A dimension of its own: ONNX Runtime gives equally named ones the same memory.
    down = ir.node("MatMul", [read, _input(graph, f"{name}.{LORA_A}", [width_in, f"{name}.rank"])])
    lora_b = _input(graph, f"{name}.{LORA_B}", [f"{name}.rank", width_out])
    up = ir.node("MatMul", [down.outputs[0], lora_b])
    (addition,) = product.outputs[0].consumers()  # of the bias
    made = addition.outputs[0]
    total = ir.node("Add", [made, up.outputs[0]])
    made.replace_all_uses_with(total.outputs[0])
    total.replace_input_with(0, made)
    graph.insert_after(addition, [down, up, total])


def _input(graph: ir.Graph, name: str, shape: list[int | str]) -> ir.Value:
    """Add an input whose named dimension is 0 unless it is given."""
    empty = np.zeros([size if isinstance(size, int) else 0 for size in shape], np.float32)
    value = ir.Value(
        name=name,
        type=ir.TensorType(ir.DataType.FLOAT),
        shape=ir.Shape(shape),
        const_value=ir.tensor(empty, name=name),
    )
    graph.inputs.append(value)
    graph.initializers.add(value)
    return value
