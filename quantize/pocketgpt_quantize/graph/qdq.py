"""QDQ form: numbers stored rounded, with a QuantizeLinear and a DequantizeLinear to say how.

An execution provider for whole numbers puts its own operators in the place of what lies between
such pairs. Activations have 16 bits and a zero, weights 8 and a scale for every output, biases 32.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from ..rounding.format import ROWS, Floats
from .rewrite import add_initializer, read_through

LEVELS = 2**16 - 1
WEIGHT_TOP = 2**7 - 1
BIAS_TOP = 2**30  # a bit is left for the sums
TINY = 1e-20  # the scale of nothing but zeros


@dataclass(frozen=True)
class Grid:
    """A stored 16-bit number q stands for `(q - zero) * scale`."""

    scale: float
    zero: int

    @classmethod
    def over(cls, low: float, high: float) -> Grid:
        """Return the grid over a range, which is widened to hold 0."""
        low, high = min(low, 0.0), max(high, 0.0)
        scale = max((high - low) / LEVELS, TINY)
        return cls(scale, round(-low / scale))


@dataclass(frozen=True)
class Channels:
    """A matrix in 8 bits: `numbers`, of its shape, times `scales`, one for each output."""

    numbers: NDArray[np.int8]
    scales: Floats


def by_channel(weight: Floats, axis: int, least: Floats | float) -> Channels:
    """Round a matrix to nearest; its outputs lie on `axis`, and no scale is below `least`."""
    largest = np.maximum(weight.max(axis=1 - axis), -weight.min(axis=1 - axis))
    scales = np.maximum(largest / WEIGHT_TOP, least).astype(np.float32)
    numbers = np.empty(weight.shape, np.int8)
    for start in range(0, len(weight), ROWS):
        rows = slice(start, start + ROWS)
        numbers[rows] = np.rint(weight[rows] / (scales[rows, None] if axis == 0 else scales))
    return Channels(numbers, scales)


def round_value(graph: ir.Graph, value: ir.Value, grid: Grid) -> None:
    """Let all who read a value read it rounded."""
    scale = add_initializer(graph, f"{value.name}.scale", np.array(grid.scale, np.float32))
    zero = add_initializer(graph, f"{value.name}.zero", np.array(grid.zero, np.uint16))
    stored = ir.node("QuantizeLinear", [value, scale, zero])
    read = ir.node("DequantizeLinear", [stored.outputs[0], scale, zero])
    read_through(graph, value, [stored, read])


def read_constant(graph: ir.Graph, name: str, array: Floats) -> ir.Node:
    """Store constants on one 16-bit grid of their own; return the node that reads them."""
    grid = Grid.over(float(array.min()), float(array.max()))
    codes = np.clip(np.rint(array / grid.scale) + grid.zero, 0, LEVELS).astype(np.uint16)
    numbers = add_initializer(graph, f"{name}.numbers", codes)
    scale = add_initializer(graph, f"{name}.scale", np.array(grid.scale, np.float32))
    zero = add_initializer(graph, f"{name}.zero", np.array(grid.zero, np.uint16))
    return ir.node("DequantizeLinear", [numbers, scale, zero])


def read_bias(graph: ir.Graph, name: str, bias: Floats, scales: Floats) -> ir.Node:
    """Store a bias in 32 bits, on the scales of a product's sums; return the node that reads it."""
    codes = np.rint(bias / scales.astype(np.float64)).astype(np.int32)
    numbers = add_initializer(graph, f"{name}.numbers", codes)
    return ir.node(
        "DequantizeLinear",
        [numbers, add_initializer(graph, f"{name}.scales", scales)],
        {"axis": 0},
    )


def least_scales(bias: Floats, input_scale: float) -> Floats:
    """Return the weights' scales below which a product's bias would not fit into 32 bits."""
    least: Floats = np.maximum(np.abs(bias) / (input_scale * BIAS_TOP), TINY)
    return least
