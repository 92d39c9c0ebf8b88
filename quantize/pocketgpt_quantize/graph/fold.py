"""Scales and offsets of a product's inputs, moved to where they cost nothing.

MatMulNBits rounds what it multiplies to 8 bits, each row by blocks on a scale of their own, so that
a channel far from zero or much larger than its neighbours takes their precision. What comes before
a product can subtract every channel's mean and divide by a scale that the weights take up: a
LayerNorm has a gain and a bias for it; the attention's output, whose weights sum to 1, moves with
the values that go in; the head's scale is taken out again where the embedding is looked up.
Scales balance the inputs' spread with the weights', after SmoothQuant
(https://arxiv.org/abs/2211.10438), offsets are those of Outlier Suppression+
(https://arxiv.org/abs/2304.09145). The function stays the same.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from pocketgpt.engine.contract import ATTENTION_OUT

from ..rounding.format import Floats
from .rewrite import add_initializer, bias_of, matrix_of, read_through, release, weights_of

NORM, ATTENTION = "LayerNormalization", "GroupQueryAttention"
FOLDS = "folds"  # under which a graph's `meta` keeps what was folded into it, by weight
LIMIT = 1000.0  # how far a scale may be from the product's mean one


@dataclass(frozen=True)
class Fold:
    """A product multiplies `(x - center) / scale` where it multiplied x; both are `[in]`."""

    center: Floats
    scale: Floats


Chooser = Callable[[str, Floats], Fold]
"""From a weight's name and its values `[out, in]` to what is to become of its inputs."""


def fold(graph: ir.Graph, choose: Chooser) -> dict[str, Fold]:
    """Fold offsets and scales into a fused fp32 graph, which computes the same.

    Weights are changed when they are read: no copy of all of them is in memory.

    Args:
        graph: changed in place.
        choose: called for every product that something foldable comes before.

    Returns:
        What was chosen, by weight.
    """
    _part_vectors(graph)
    folds = {}
    for name, nodes in weights_of(graph).items():
        product = next((node for node in nodes if node.op_type != "Gather"), None)
        before = None if product is None else _foldable_source(product)
        if product is None or before is None:
            continue
        weight = graph.initializers[name].const_value
        found = folds[name] = choose(name, matrix_of(graph, name, nodes))
        (_into_norm if before.op_type == NORM else _into_values)(before, found)
        if bias_of(product) is None:
            _into_head(graph, product, found)
        else:
            _into_product(product, found)
        release(weight)
    graph.meta[FOLDS] = folds
    return folds


def basis_of(graph: ir.Graph) -> str | None:
    """Return a hash of what values were folded by; None where nothing was folded."""
    folds: dict[str, Fold] = graph.meta.get(FOLDS, {})
    found = [folds[name] for name in sorted(folds) if ATTENTION_OUT in name]
    if not found:
        return None
    parts = b"".join(one.center.tobytes() + one.scale.tobytes() for one in found)
    return hashlib.sha256(parts).hexdigest()


def _part_vectors(graph: ir.Graph) -> None:
    """Give each node gains and biases of its own: exports store those that are equal once."""
    for name, value in list(graph.initializers.items()):
        if value.dtype != ir.DataType.FLOAT or len(_tensor(value).shape) != 1:
            continue
        for number, (node, place) in enumerate(list(value.uses())[1:]):
            copy = add_initializer(graph, f"{name}.{number + 1}", np.array(_tensor(value).numpy()))
            node.replace_input_with(place, copy)


def _foldable_source(product: ir.Node) -> ir.Node | None:
    """Return what makes a product's input, if a fold can go there and nothing else reads it."""
    source = product.inputs[0].producer() if product.inputs[0] is not None else None
    if source is None or len(source.outputs[0].consumers()) > 1:
        return None
    return source if source.op_type in (NORM, ATTENTION) else None


def balanced(mean: Floats, deviation: Floats, weight: Floats) -> Fold:
    """Center inputs and let them and the weights vary alike across channels.

    Args:
        mean: of each input channel on real text, `[in]`.
        deviation: standard, `[in]`.
        weight: `[out, in]`.
    """
    size = np.sqrt(np.einsum("oi,oi->i", weight, weight) / len(weight))
    logs = (np.log(_floored(deviation)) - np.log(_floored(size))) / 2
    scale = np.exp(np.clip(logs - logs.mean(), -np.log(LIMIT), np.log(LIMIT)))
    return Fold(mean, scale.astype(np.float32))


def _floored(values: Floats) -> Floats:
    """Keep channels that never vary from scales without bounds."""
    largest = values.max()
    return np.maximum(values, largest / LIMIT**2) if largest > 0 else np.ones_like(values)


def _into_norm(norm: ir.Node, found: Fold) -> None:
    _change(norm.inputs[1], lambda gain: gain / found.scale)
    _change(norm.inputs[2], lambda bias: (bias - found.center) / found.scale)


def _into_values(attention: ir.Node, found: Fold) -> None:
    """Change the values' part, the last third, of what the packed projection gives."""
    packed = attention.inputs[0]
    addition = packed.producer() if packed is not None else None
    projection = addition.inputs[0] if addition is not None else None
    product = projection.producer() if projection is not None else None
    assert product is not None
    width = len(found.scale)

    def scaled(weight: Floats) -> Floats:
        return np.concatenate(
            [weight[:, : 2 * width], weight[:, 2 * width :] / found.scale], axis=1
        )

    def moved(bias: Floats) -> Floats:
        return np.append(bias[: 2 * width], (bias[2 * width :] - found.center) / found.scale)

    _change(product.inputs[1], scaled)
    _change(bias_of(product), moved)


def _into_product(product: ir.Node, found: Fold) -> None:
    """Let the weight `[in, out]` take up the scale, and the bias what the center gave."""
    given = found.center @ _tensor(product.inputs[1]).numpy()
    _change(bias_of(product), lambda bias: bias + given)
    _change(product.inputs[1], lambda weight: weight * found.scale[:, None])


def _into_head(graph: ir.Graph, head: ir.Node, found: Fold) -> None:
    """The same for the head, `[vocab, in]`: it has no bias, and may be looked up as well."""
    value = head.inputs[1]
    assert value is not None
    given = _tensor(value).numpy() @ found.center
    offset = add_initializer(graph, f"{value.name}.offset", given)
    read_through(graph, head.outputs[0], [ir.node("Add", [head.outputs[0], offset])])
    _change(value, lambda weight: weight * found.scale)
    inverse = add_initializer(graph, f"{value.name}.inverse_scale", 1 / found.scale)
    for node in value.consumers():
        if node.op_type == "Gather":
            read_through(graph, node.outputs[0], [ir.node("Mul", [node.outputs[0], inverse])])


def _change(value: ir.Value | None, change: Callable[[Floats], Floats]) -> None:
    """Put an initializer's changed content in its place, made when it is read."""
    old = _tensor(value)
    assert value is not None

    def made() -> ir.TensorProtocol:
        changed = np.asarray(change(old.numpy()), np.float32)
        release(old)
        return ir.tensor(changed)

    shape = ir.Shape(old.shape.numpy())
    value.const_value = ir.LazyTensor(made, dtype=old.dtype, shape=shape, name=old.name)


def _tensor(value: ir.Value | None) -> ir.TensorProtocol:
    assert value is not None
    assert value.const_value is not None
    return value.const_value
