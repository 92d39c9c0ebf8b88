"""A variant's graph once more, with places for LoRA adapters, over the same weights.

The fp32 graph's are found by the values that they lie between, which keep their names when weights
are rounded, and are added to the variant. What folds changed of those values goes into the graph's
metadata: the runtime converts an adapter by it.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx_ir as ir

from pocketgpt import QuantizationError
from pocketgpt.engine.adapters import CHANGES, Change, write_changes
from pocketgpt.engine.contract import ATTENTION_IN, ATTENTION_OUT, LORA_A, LORA_B, LORA_BIAS

from .fold import FOLDS, Fold


@dataclass(frozen=True)
class Place:
    """Where an adapter may change a product: the names of the value it reads and the one it makes.

    `lora_a` and `lora_b` are the inputs' shapes, the rank by its name.
    """

    product: str
    reads: str
    makes: str
    lora_a: ir.Shape
    lora_b: ir.Shape


def places_of(source: Path) -> list[Place]:
    """Return the places in a graph that the exporter wrote for adapters.

    Raises:
        QuantizationError: it is no such graph.
    """
    try:
        graph = ir.load(source).graph
        inputs = [v for v in graph.inputs if v.name is not None and v.name.endswith(f".{LORA_A}")]
        places = [_place_of(value) for value in inputs]
    except Exception as error:  # protobuf's and onnx_ir's, of many kinds, and ours
        reason = " ".join(str(error).split())
        raise QuantizationError(
            f"{source} has no places for adapters that can be read: {reason:.200}"
        ) from error
    if not places:
        raise QuantizationError(f"{source} has no places for adapters; export the model again")
    return places


def _place_of(lora_a: ir.Value) -> Place:
    ((down, _),) = lora_a.uses()
    ((up, _),) = down.outputs[0].uses()
    ((total, _),) = up.outputs[0].uses()
    read, lora_b, made = down.inputs[0], up.inputs[1], total.inputs[0]
    names = [value and value.name for value in (lora_a, read, made)]
    product, reads, makes = (name for name in names if name)
    if lora_b is None or lora_a.shape is None or lora_b.shape is None:
        raise ValueError(f"{product} has no shape")
    return Place(product.removesuffix(f".{LORA_A}"), reads, makes, lora_a.shape, lora_b.shape)


def write_adapter_graph(model: ir.Model, source: Path, target: Path) -> None:
    """Write a saved variant with the places that the fp32 graph `source` has.

    `model` is used up; its weights stay in the variant's file.

    Raises:
        QuantizationError: `source` is no graph with places for adapters, or another model's.
    """
    graph = model.graph
    folds: dict[str, Fold] = graph.meta.get(FOLDS, {})
    values = {value.name: value for node in graph for value in node.outputs}
    changes = {}
    for place in places_of(source):
        if not {place.reads, place.makes} <= values.keys():
            raise QuantizationError(
                f"{source} has a place for adapters at {place.product:.200}, and the model has none"
            )
        changes[place.product] = _change(place, folds)
        centered = changes[place.product].center is not None
        _add_place(graph, place, values[place.reads], values[place.makes], centered)
    model.metadata_props[CHANGES] = write_changes(changes)
    ir.save(model, target)


def _change(place: Place, folds: dict[str, Fold]) -> Change:
    """Return what the folds changed of what a product reads and makes."""
    read = folds.get(f"{place.product}.weight")
    layer, divisor = place.product.removesuffix(ATTENTION_IN), None
    values = folds.get(f"{layer}{ATTENTION_OUT}.weight")
    if place.product.endswith(ATTENTION_IN) and values is not None:
        # Queries, keys and values are packed; the values take up the attention's output's fold.
        divisor = np.concatenate([np.ones(2 * len(values.scale), np.float32), values.scale])
    if read is None:
        return Change(divisor=divisor)
    return Change(read.scale, read.center, divisor)


def _add_place(
    graph: ir.Graph, place: Place, read: ir.Value, made: ir.Value, centered: bool
) -> None:
    dtype = read.dtype or ir.DataType.FLOAT
    lora_a = _input(graph, f"{place.product}.{LORA_A}", place.lora_a, dtype)
    lora_b = _input(graph, f"{place.product}.{LORA_B}", place.lora_b, dtype)
    new = [ir.node("MatMul", [read, lora_a])]
    if centered:
        rank = ir.Shape([place.lora_a[1]])
        bias = _input(graph, f"{place.product}.{LORA_BIAS}", rank, dtype)
        new.append(ir.node("Add", [new[-1].outputs[0], bias]))
    new.append(ir.node("MatMul", [new[-1].outputs[0], lora_b]))
    if made.dtype not in (None, dtype):  # half precision keeps some values in float32
        new.append(ir.node("Cast", [new[-1].outputs[0]], {"to": int(made.dtype)}))
    new.append(ir.node("Add", [made, new[-1].outputs[0]]))
    producer = made.producer()
    assert producer is not None
    made.replace_all_uses_with(new[-1].outputs[0])
    new[-1].replace_input_with(0, made)
    graph.insert_after(producer, new)


def _input(graph: ir.Graph, name: str, shape: ir.Shape, dtype: ir.DataType) -> ir.Value:
    """Add an input whose named dimension is 0 unless it is given."""
    empty = np.zeros([size if isinstance(size, int) else 0 for size in shape], dtype.numpy())
    value = ir.Value(
        name=name,
        type=ir.TensorType(dtype),
        shape=ir.Shape(shape),
        const_value=ir.tensor(empty, name=name),
    )
    graph.inputs.append(value)
    graph.initializers.add(value)
    return value
