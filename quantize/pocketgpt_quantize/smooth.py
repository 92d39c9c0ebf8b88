"""Outlier channels divided away before a product, and multiplied back by its weights.

SmoothQuant, Xiao et al., https://arxiv.org/abs/2211.10438: a few channels of what a product reads
are many times larger than the others, and a scale that fits them rounds the others away. Dividing
channel j by s_j and multiplying row j of the weights by it leaves the model the same. The division
costs nothing where what comes before can take it: the LayerNorm before attention and before the
feed-forward half, and the values' columns before attention's output (attention mixes tokens, never
channels). Behind the activation function nothing can.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from .blockwise import Floats
from .rewrite import bias_of, kind_of, weights_of

STRENGTH = 0.65  # how much of an outlier goes over to the weights: the least KL of 0.35 to 0.65
FLOOR = 1e-5  # of a channel that is always 0, and the least share a scale may have

Change = Callable[[Floats], Floats]


def smooth(
    graph: ir.Graph, peaks: Mapping[str, Floats], strength: float = STRENGTH
) -> dict[str, Floats]:
    """Even out the inputs of a fused fp32 graph's products; the graph computes the same.

    With `s_j = peak_j ** strength / weight_j ** (1 - strength)`, where `weight_j` is the largest
    magnitude in row j of the weights. Weights are changed when they are read: no copy of all of
    them is in memory.

    Args:
        graph: changed in place.
        peaks: the largest magnitude of every input channel, `[in]`, by the weights' names; others
            are left as they are.
        strength: 0 to 1.

    Returns:
        What the input channels of weights are divided by, `[in]`, by the weights' names.
    """
    scales: dict[str, Floats] = {}
    for name, nodes in weights_of(graph).items():
        if kind_of(nodes) != "layer" or len(nodes) != 1 or name not in peaks:
            continue
        divide = _divider(graph, nodes[0])
        if divide is None:
            continue
        weight = _array(graph.initializers[name])
        scale = _scales(peaks[name], np.abs(weight).max(axis=1), strength)
        divide(scale)
        _change(graph.initializers[name], partial(np.multiply, scale[:, None]))
        scales[name] = scale
    return scales


def _scales(peaks: Floats, weights: Floats, strength: float) -> Floats:
    peaks, weights = (np.maximum(of, max(FLOOR * of.max(), 1e-30)) for of in (peaks, weights))
    scale = np.power(peaks, strength) / np.power(weights, 1 - strength)
    even: Floats = (scale / np.exp(np.log(scale).mean())).astype(np.float32)
    return even


def _divider(graph: ir.Graph, node: ir.Node) -> Callable[[Floats], None] | None:
    """Return what divides a product's input channels by scales, where that can be folded away."""
    value = node.inputs[0]
    before = value.producer() if value is not None else None
    if before is None or value is None or len(value.consumers()) != 1:
        return None
    if before.op_type == "LayerNormalization":
        return partial(_divide_norm, graph, before)
    if before.op_type == "GroupQueryAttention":
        packed = before.inputs[0]
        addition = packed.producer() if packed is not None else None
        product = addition.inputs[0].producer() if addition and addition.inputs[0] else None
        if product is not None and product.op_type == "MatMul" and bias_of(product) is not None:
            return partial(_divide_values, graph, product)
    return None


def _divide_norm(graph: ir.Graph, norm: ir.Node, scale: Floats) -> None:
    for value in norm.inputs[1:]:
        if value is not None:
            _change(value, lambda array: array / scale)


def _divide_values(graph: ir.Graph, product: ir.Node, scale: Floats) -> None:
    """Divide the last third of what makes queries, keys and values."""

    def divided(array: Floats) -> Floats:
        array = array.copy()
        array[..., -len(scale) :] /= scale
        return array

    for value in (product.inputs[1], bias_of(product)):
        assert value is not None
        _change(value, divided)


def _change(value: ir.Value, change: Change) -> None:
    tensor = value.const_value
    assert tensor is not None
    assert value.shape is not None

    def changed() -> ir.TensorProtocol:
        return ir.tensor(np.asarray(change(tensor.numpy()), np.float32))

    value.const_value = ir.LazyTensor(
        changed, dtype=tensor.dtype, shape=value.shape, name=value.name
    )


def _array(value: ir.Value) -> NDArray[np.float32]:
    assert value.const_value is not None
    array: NDArray[np.float32] = value.const_value.numpy()
    return array
