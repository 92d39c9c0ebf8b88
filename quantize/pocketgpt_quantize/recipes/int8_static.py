"""`int8_static`: whole numbers throughout, on scales fixed beforehand, as NPUs want them.

Every float that the portable graph's nodes read or make is put into QDQ form. Weights have 8 bits;
what the nodes make has 16, for with 8 GPT-2's outlier channels cost more than a tenth of
perplexity. Its ranges are those seen on the calibration text.

ONNX Runtime's `quantize_static` makes the like, but has the weights in memory more than once, and
takes an attention mask's -3e38 for a number like any other: 16 bits then tell no scores apart.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping

import numpy as np
import onnx_ir as ir
from onnx_ir.passes.common import (
    IdentityEliminationPass,
    RemoveUnusedNodesPass,
    ShapeInferencePass,
)

from pocketgpt.folder.manifest import Variant

from ..graph.qdq import (
    LEVELS,
    TINY,
    Grid,
    by_channel,
    least_scales,
    read_bias,
    read_constant,
    round_value,
)
from ..graph.rewrite import add_initializer, add_rows, array_of, put_aside, release, save
from ..job import Job
from ..observe.ranges import MASKED, Range, record_ranges
from ..rounding.format import Floats

OPSET = 21  # the first whose QuantizeLinear knows 16 bits; the graph's operators are as before
IR_VERSION = 10  # what came with it
HEADROOM = 1.25  # other texts may bring numbers so many times larger than the calibration text's
RANGE_TOKENS = 8192  # of the calibration text
HIDDEN = 30.0  # so far below the least score, a token still gets less than 1e-12 of the attention
PRODUCTS = ("Gemm", "MatMul")
BIAS = 2  # its place among a Gemm's inputs
MOVES = ("Reshape", "Transpose", "Split", "Slice", "Squeeze", "Unsqueeze", "Concat", "Expand")
FIXED = {  # their outputs' ranges are known; Qualcomm's processors accept no other scales
    "Softmax": Grid(1 / LEVELS, 0),
    "Sigmoid": Grid(2**-16, 0),
    "Tanh": Grid(2**-15, 2**15),
}


def make_int8_static(job: Job) -> Variant:
    """Make the portable graph's variant in QDQ form."""
    model = ir.load(job.source)
    IdentityEliminationPass()(model)
    ShapeInferencePass()(model)
    graph = model.graph
    _drop_casts(graph)
    made = [_name(value) for _, value in _made(graph)]
    tokens, step = job.token_ids[:RANGE_TOKENS], job.step("recording ranges for")
    ranges = record_ranges(job.source, job.config, tokens, made, step)
    _lower_masks(graph, ranges)
    grids = _grids(graph, ranges)
    bits = dict.fromkeys(job.opened.record.bits, 8)
    stored = [name for name in bits if name in graph.initializers]  # equal ones are stored once
    _store_constants(graph, stored)
    _store_weights(graph, stored, grids, job)
    for value in [*graph.inputs, *(value for node in graph for value in node.outputs)]:
        if value.name in grids:
            round_value(graph, value, grids[value.name])
    RemoveUnusedNodesPass()(model)
    graph.opset_imports[""], model.ir_version = OPSET, IR_VERSION
    save(model, job.target)
    return job.made(bits, method="rtn")


def _name(value: ir.Value | None) -> str:
    assert value is not None
    assert value.name is not None
    return value.name


def _is_float(value: ir.Value | None) -> bool:
    return value is not None and value.dtype == ir.DataType.FLOAT


def _made(graph: ir.Graph) -> Iterator[tuple[ir.Node, ir.Value]]:
    """Yield the floats that nodes make, each with its node; constants apart."""
    for node in graph:
        if node.op_type != "Constant":
            yield from ((node, value) for value in node.outputs if _is_float(value))


def _drop_casts(graph: ir.Graph) -> None:
    """Remove casts of float32 to float32."""
    for node in list(graph):
        if node.op_type == "Cast" and _is_float(node.inputs[0]) and _is_float(node.outputs[0]):
            assert node.inputs[0] is not None
            node.outputs[0].replace_all_uses_with(node.inputs[0])
            graph.remove(node, safe=True)


def _lower_masks(graph: ir.Graph, ranges: dict[str, Range]) -> None:
    """Put a number that 16 bits can tell from a score where masks have float32's least.

    It takes a score's place or is added to one; either way the token stays hidden. The ranges of
    what masks go into, up to the softmax, reach down to it.
    """
    masks = {
        node.outputs[0]: node
        for node in graph
        if node.op_type == "Constant" and _is_float(node.outputs[0]) and _hides(node.outputs[0])
    }
    masked = set(masks)
    names = []
    for node, value in _made(graph):
        if node.op_type != "Softmax" and masked.intersection(node.inputs):
            masked.add(value)
            names.append(_name(value))
    low, high = min(ranges[name][0] for name in names), max(ranges[name][1] for name in names)
    bottom = low - high - HIDDEN
    for node in masks.values():
        lowered = ir.tensor(np.array(bottom, np.float32))
        node.attributes["value"] = ir.AttrTensor("value", lowered)
    ranges |= {name: (bottom, ranges[name][1]) for name in names}


def _hides(value: ir.Value) -> bool:
    array = _constant(value)
    return array is not None and bool((array <= MASKED).any())


def _grids(graph: ir.Graph, ranges: Mapping[str, Range]) -> dict[str, Grid]:
    """Choose every value's grid; values that the same numbers move through share one.

    So does the cache, what comes in and what goes out: it is not rounded anew at every step.
    """
    groups = {name: {name} for name in ranges}
    fixed = {}
    for node in graph:
        if node.op_type in MOVES:
            names = {_name(v) for v in (*node.inputs, *node.outputs) if _is_float(v)}
            together = names.union(*(groups.get(name, set()) for name in names))
            groups |= dict.fromkeys(together, together)
        elif node.op_type in FIXED:
            fixed[_name(node.outputs[0])] = FIXED[node.op_type]
    grids = {}
    for name, together in groups.items():
        known = [ranges[other] for other in together if other in ranges]
        low, high = min(low for low, _ in known), max(high for _, high in known)
        grids[name] = Grid.over(HEADROOM * low, HEADROOM * high)
    return grids | fixed


def _store_weights(graph: ir.Graph, names: list[str], grids: Mapping[str, Grid], job: Job) -> None:
    """Store every weight matrix in 8 bits, a Gemm's as `[out, in]`, which NPUs want it to be.

    Where the head multiplies by what is looked up in as well, these are two names of the same
    bytes, `.packed` and `.rows` (`save` sees to it): QNN's provider refuses one for both.
    """
    step = job.step("quantizing to")
    for done, name in enumerate(names):
        value = graph.initializers[name]
        products = [node for node in value.consumers() if node.op_type in PRODUCTS]
        axis, weight = int(any(node.op_type == "MatMul" for node in products)), array_of(value)
        if any(node.op_type == "Gemm" and not _is_transposed(node) for node in products):
            weight = weight.T
        channels = by_channel(weight, axis, _least_scales(products, grids))
        packed = add_initializer(graph, f"{name}.packed", channels.numbers)
        put_aside(packed, job.scratch)
        scales = add_initializer(graph, f"{name}.scales", channels.scales)
        for node in value.consumers():
            if node in products:
                read = ir.node("DequantizeLinear", [packed, scales], {"axis": axis})
                _read(graph, node, 1, read)
                _finish_product(graph, node, channels.scales, grids)
            else:
                rows = add_rows(graph, packed) if products else packed
                _look_up(graph, node, rows, scales)
        del weight  # a view of the file
        release(graph.initializers.pop(name).const_value)
        step(done + 1, len(names))


def _is_transposed(gemm: ir.Node) -> bool:
    return bool(gemm.attributes.get_int("transB", 0))


def _has_bias(product: ir.Node) -> bool:
    return len(product.inputs) > BIAS


def _least_scales(products: list[ir.Node], grids: Mapping[str, Grid]) -> Floats | float:
    """Return the least scales that a weight may have, which several products may share."""
    least: Floats | float = TINY
    for node in filter(_has_bias, products):
        input_scale = grids[_name(node.inputs[0])].scale
        least = np.maximum(least, least_scales(array_of(node.inputs[BIAS]), input_scale))
    return least


def _finish_product(
    graph: ir.Graph, product: ir.Node, scales: Floats, grids: Mapping[str, Grid]
) -> None:
    """Let a Gemm multiply by `[out, in]`, and store its bias in 32 bits on its sums' scales."""
    if product.op_type == "Gemm":
        product.attributes["transB"] = ir.AttrInt64("transB", 1)
    if _has_bias(product):
        bias = product.inputs[BIAS]
        sums = scales * np.float32(grids[_name(product.inputs[0])].scale)
        name = f"{_name(bias)}.{product.name}"
        _read(graph, product, BIAS, read_bias(graph, name, array_of(bias), sums))


def _look_up(graph: ir.Graph, gather: ir.Node, numbers: ir.Value, scales: ir.Value) -> None:
    """Look rows and their scales up, where `gather` would read all of them dequantized."""
    table, index = gather.inputs
    last = add_initializer(graph, f"{_name(table)}.last_axis", np.array([-1], np.int64))
    rows = ir.node("Gather", [numbers, index])
    sizes = ir.node("Gather", [scales, index])
    floats = ir.node("Cast", rows.outputs, {"to": ir.DataType.FLOAT})
    columns = ir.node("Unsqueeze", [sizes.outputs[0], last])
    product = ir.node("Mul", [floats.outputs[0], columns.outputs[0]])
    (old,), (new,) = gather.outputs, product.outputs
    new.name, new.shape, new.type = old.name, old.shape, old.type
    nodes = [rows, sizes, floats, columns, product]
    ir.convenience.replace_nodes_and_values(graph, gather, [gather], nodes, [old], [new])


def _store_constants(graph: ir.Graph, weights: Collection[str]) -> None:
    """Store other floats than weight matrices and their products' biases in 16 bits."""
    for node in list(graph):
        for place, value in enumerate(node.inputs):
            if not _is_float(value) or _name(value) in weights:
                continue
            array = _constant(value)
            if array is not None and not (node.op_type in PRODUCTS and place == BIAS):
                name = f"{_name(value)}.{node.name}"
                _read(graph, node, place, read_constant(graph, name, array))


def _constant(value: ir.Value | None) -> Floats | None:
    """Return what a Constant node or an initializer holds; None for what is computed."""
    assert value is not None
    tensor, maker = value.const_value, value.producer()
    if maker is not None and maker.op_type == "Constant":
        tensor = maker.attributes["value"].as_tensor()
    return None if tensor is None else tensor.numpy()


def _read(graph: ir.Graph, node: ir.Node, place: int, read: ir.Node) -> None:
    """Let a node read what another one, put before it, makes."""
    graph.insert_before(node, read)
    node.replace_input_with(place, read.outputs[0])
