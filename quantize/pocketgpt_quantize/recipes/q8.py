"""Products of 8-bit numbers by 8-bit numbers: a scale for every row, one for every output.

ONNX Runtime's own way (DynamicQuantizeMatMul, or DynamicQuantizeLinear and MatMulInteger) has one
scale for all rows of a pass: a row of a batch changes the others, and a token's logits depend on
what is computed together with it. Here each row has its own, by a few small operators more, at the
same speed. Its sums are whole numbers, exact in any order.

A row's zero is a fixed number, chosen by what the rows look like: the middle for inputs that reach
as far down as up, near 0 behind an activation function.

Weights keep to -64..63: on x86-64 processors without VNNI, ONNX Runtime adds pairs of products in
16 bits, and 2 * 255 * 64 is the most that fits. (With 127 the sums overflowed, unnoticed: four
times the rounding's error.) GPTQ makes up for the lost bit.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from pocketgpt.folder.manifest import Variant

from ..graph.fold import basis_of
from ..graph.rewrite import (
    DOMAIN,
    add_initializer,
    bias_of,
    kind_of,
    load_graph,
    matrix_of,
    products_of,
    put_aside,
    quantize_blockwise,
    release,
    replace_biased,
    weights_of,
)
from ..job import Job
from ..observe.calibration import Recorder
from ..rounding.format import BlockwiseWeight, Floats, Format, Rounded
from ..rounding.gptq import gptq
from ..rounding.scheme import INT8, Kind
from .blocks import best_blocks
from .int8_q4 import DAMPING, Calibrated

TOP = 255  # the largest stored activation
MIDDLE = 128
ZEROS = (8, 16, 24, 32, 48, 64, 96, MIDDLE)  # tried for inputs that cannot be evened out
WEIGHT_BITS = 7
TINY = 1e-20  # the scale of a row of zeros


def make_q8(job: Job) -> Variant:
    """Make the variant whose layers multiply 8-bit numbers; embeddings are int8's."""
    scheme = best_blocks(INT8, job)
    model = load_graph(job.source)
    graph = model.graph
    calibrated = Calibrated(job.source, job.config, job.token_ids)
    calibrated.record_first()
    calibrated.fold(graph)

    def eight(name: str, kind: Kind, weight: Floats) -> BlockwiseWeight:
        return calibrated.quantize(name, kind, weight, scheme.format_of(name, kind))

    kinds: tuple[Kind, ...] = ("embedding", "positions")
    bits = quantize_blockwise(graph, eight, scratch=job.scratch, kinds=kinds)
    layers = {n: users for n, users in weights_of(graph).items() if kind_of(users) == "layer"}
    products = [product for product in products_of(graph) if product.weight in layers]
    recorder = Recorder(job.source, job.config, job.token_ids, products)
    zeros = best_zeros(recorder, [name for name in layers if name not in calibrated.folds])
    step = job.step("quantizing to")
    for done, (name, nodes) in enumerate(layers.items()):
        moments = calibrated.spread(name).folded(calibrated.folds.get(name)).moments
        columns = quantize_columns(matrix_of(graph, name, nodes), gptq(moments, DAMPING))
        for node in nodes:
            multiply_rowwise(graph, node, columns, zeros.get(name, MIDDLE))
        release(graph.initializers.pop(name).const_value)
        put_aside(graph.initializers[f"{name}.numbers"], job.scratch)
        bits[name] = 8
        step(done + 1, len(layers))
    job.save(model)
    known = job.opened.record.bits
    return job.made({**known, **bits}, method="gptq", basis=basis_of(graph))


@dataclass(frozen=True)
class Columns:
    """A quantized matrix: `numbers [in, out]` int8 times `scales [out]`."""

    numbers: NDArray[np.int8]
    scales: Floats


def quantize_columns(weight: Floats, rounding: Callable[[Floats, Format], Rounded]) -> Columns:
    """Quantize `weight [out, in]` to 7 bits, with one scale for every output."""
    form = Format(WEIGHT_BITS, weight.shape[1])
    codes, scales, _ = rounding(np.ascontiguousarray(weight, np.float32), form)
    numbers = (codes.T.astype(np.int16) - form.middle).astype(np.int8)
    return Columns(np.ascontiguousarray(numbers), scales[:, 0])


def best_zeros(recorder: Recorder, names: list[str]) -> dict[str, int]:
    """Choose each product's zero: the one whose rows' scales are smallest in the mean square."""
    squares = {name: np.zeros(len(ZEROS)) for name in names}
    for chunk in recorder.activations(names):
        for name, rows in chunk.items():
            high, low = rows.max(axis=1), rows.min(axis=1)
            for index, zero in enumerate(ZEROS):
                scales = np.maximum(high / (TOP - zero), -low / zero)
                squares[name][index] += np.square(scales, dtype=np.float64).sum()
    return {name: ZEROS[int(found.argmin())] for name, found in squares.items()}


def multiply_rowwise(graph: ir.Graph, node: ir.Node, columns: Columns, zero: int) -> None:
    """Replace a product `[.., in] x [in, out]`, and its bias addition, by one of 8-bit numbers.

    Row x is stored as `u = round(x / s) + zero`, 0 to 255, with the least s that holds it; the
    product is `s * ((u - zero) @ numbers * scales)`.
    """
    (given, weight), bias = node.inputs[:2], bias_of(node)
    assert weight is not None
    one = _shared(graph, "one", np.array(1, np.float32))
    middle = _shared(graph, f"zero.{zero}", np.array(zero, np.uint8))
    above = _shared(graph, f"zero.{zero}.above", np.array(1 / (TOP - zero), np.float32))
    below = _shared(graph, f"zero.{zero}.below", np.array(-1 / zero, np.float32))
    last = _shared(graph, "axis.last", np.array([-1], np.int64))
    tiny = _shared(graph, "tiny", np.array(TINY, np.float32))
    numbers = add_initializer(graph, f"{weight.name}.numbers", columns.numbers)
    scales = add_initializer(graph, f"{weight.name}.scales", columns.scales)

    new: list[ir.Node] = []

    def add(kind: str, *inputs: ir.Value | None, domain: str = "") -> ir.Value:
        new.append(ir.node(kind, inputs, domain=domain))
        return new[-1].outputs[0]

    up = add("Mul", add("ReduceMax", given, last), above)
    down = add("Mul", add("ReduceMin", given, last), below)
    scale = add("Max", up, down, tiny)
    rounded = add("QuantizeLinear", add("Div", given, scale), one, middle)
    product = add("MatMulIntegerToFloat", rounded, numbers, one, scales, middle, domain=DOMAIN)
    whole = add("Mul", product, scale)
    if bias is not None:
        add("Add", whole, bias)
    replace_biased(graph, node, new)


def _shared(graph: ir.Graph, name: str, array: NDArray[np.generic]) -> ir.Value:
    """Return a constant of the graph, added the first time."""
    name = f"q8.{name}"
    known = graph.initializers.get(name)
    return add_initializer(graph, name, array) if known is None else known
