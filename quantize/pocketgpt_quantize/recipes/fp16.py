"""Half precision: float16 wherever numbers fit into it, float32 where they would overflow.

What overflows is measured, not guessed: every value of the fp32 graph is looked at while the
calibration text runs through it. The cache is float16, the logits are float32.

On a CPU, ONNX Runtime 1.32 has float16 kernels for GroupQueryAttention and the lookups alone. The
rest it computes in float32, between casts that it inserts: right, but slow, and a little closer to
fp32 than a GPU, where every result is rounded.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import partial

import numpy as np
import onnx_ir as ir

from pocketgpt import QuantizationError
from pocketgpt.folder.manifest import Variant

from ..graph.rewrite import Product, array_of, load_graph, release
from ..job import Job
from ..observe.calibration import Recorder
from ..rounding.format import Floats
from ..rounding.scheme import Scheme
from .int8_q4 import blockwise_model, method_of

LARGEST = float(np.finfo(np.float16).max)
HEADROOM = 4  # other texts may bring numbers so many times larger than the calibration text's
PEAK_TOKENS = 8192  # of the calibration text; outliers show within any text's first tokens

TOGETHER = 16  # values whose numbers for a chunk of the text are in memory at once

_SINGLE, _HALF = ir.DataType.FLOAT, ir.DataType.FLOAT16
_NUMBERS_TO_OTHERS = {"Shape", "Equal", "Less", "Greater", "IsNaN"}


def make_fp16(job: Job) -> Variant:
    """Make the fp32 graph's float16 variant.

    Raises:
        QuantizationError: what goes into attention overflows: the cache has no other type.
    """
    model = load_graph(job.source)
    bits = to_half(model.graph, wide_values(job))
    job.save(model, job.step("writing"))
    return job.made({name: bits[name] for name in job.opened.record.bits})


def make_q4f16(scheme: Scheme, job: Job) -> Variant:
    """Make a scheme's variant with float16 scales, activations and cache.

    Raises:
        QuantizationError: what goes into attention overflows.
    """
    wide = wide_values(job)
    scheme = scheme.with_blocks(job.block_size)
    model, bits = blockwise_model(scheme, job)
    rest = to_half(model.graph, wide)
    job.save(model, job.step("writing"))
    known = job.opened.record.bits
    return job.made(
        {name: bits.get(name) or rest[name] for name in known},
        method=method_of(job),
        block_size=scheme.layer.block_size,
    )


def wide_values(job: Job) -> set[str]:
    """Return the names of the values in the fp32 graph that half precision may not hold."""
    graph = load_graph(job.source).graph
    cache = set(graph.outputs[1:])  # holds what went into it
    values = (value for node in _float_nodes(graph) for value in node.outputs)
    names = [value.name for value in values if value not in cache]
    products = [Product(name, name, 0) for name in names if name is not None]
    recorder = Recorder(job.source, job.config, job.token_ids[:PEAK_TOKENS], products)
    peaks: dict[str, Floats] = {}
    for start in range(0, len(products), TOGETHER):
        group = products[start : start + TOGETHER]
        peaks |= recorder.largest([product.weight for product in group])
    return {name for name, peak in peaks.items() if not peak.max() * HEADROOM <= LARGEST}


def to_half(graph: ir.Graph, wide: set[str]) -> dict[str, int]:
    """Turn a graph's float32 into float16, but for the nodes that make or read `wide` values.

    A weight that such a node shares with others stays float32 for all of them.

    Returns:
        The bits of every weight that was float32, by name.

    Raises:
        QuantizationError: attention is among those nodes.
    """
    nodes = list(_float_nodes(graph))
    weights = {n: v for n, v in graph.initializers.items() if v.dtype == _SINGLE}
    singles = _single_nodes(nodes, weights, wide)
    for node in nodes:
        for value in _floats(node.outputs):
            value.dtype = _SINGLE if node in singles else _HALF
    for value in graph.inputs:
        if value.dtype == _SINGLE:
            value.dtype = _HALF
    bits = {}
    for name, value in weights.items():
        single = any(user in singles for user in value.consumers())
        bits[name] = 32 if single else 16
        if not single:
            _halve(value)
    for node in nodes:
        _cast_inputs(graph, node, _SINGLE if node in singles else _HALF)
    _single_logits(graph)
    return bits


def _float_nodes(graph: ir.Graph) -> Iterator[ir.Node]:
    """Yield the nodes that compute with floats; mark what they make as float32."""
    for node in graph:
        if _floats(node.inputs) and node.op_type not in _NUMBERS_TO_OTHERS:
            for value in node.outputs:
                value.dtype = _SINGLE
            yield node


def _floats(values: Iterable[ir.Value | None]) -> list[ir.Value]:
    return [value for value in values if value is not None and value.dtype in (_SINGLE, _HALF)]


def _single_nodes(
    nodes: list[ir.Node], weights: dict[str, ir.Value], wide: set[str]
) -> set[ir.Node]:
    """Return the nodes that have to compute in float32."""
    singles = {
        node
        for node in nodes
        if any(value.name in wide for value in (*_floats(node.inputs), *node.outputs))
    }
    for value in weights.values():
        array = array_of(value)
        if max(array.max(initial=0), -array.min(initial=0)) > LARGEST:
            singles.update(value.consumers())
        del array
        release(value.const_value)
    shared = [users for v in weights.values() if len(users := set(v.consumers())) > 1]
    while more := set().union(*(users for users in shared if users & singles)) - singles:
        singles |= more
    if any(node.op_type == "GroupQueryAttention" for node in singles):
        raise QuantizationError(
            "half precision does not suit this model: its attention's queries, keys or values "
            f"overflow it beyond {LARGEST:g} / {HEADROOM}; make int8 or q4 instead"
        )
    return singles


def _halve(value: ir.Value) -> None:
    """Make a weight float16, when it is written: no copy of all of them is in memory."""
    assert value.const_value is not None
    assert value.shape is not None
    value.const_value = ir.LazyTensor(
        partial(_rounded, value.const_value), dtype=_HALF, shape=value.shape, name=value.name
    )
    value.dtype = _HALF


def _rounded(tensor: ir.TensorProtocol) -> ir.TensorProtocol:
    rounded = ir.tensor(tensor.numpy().astype(np.float16))
    release(tensor)
    return rounded


def _cast_inputs(graph: ir.Graph, node: ir.Node, dtype: ir.DataType) -> None:
    for place, value in enumerate(node.inputs):
        if value is None or value.dtype not in (_SINGLE, _HALF) or value.dtype == dtype:
            continue
        name = f"{value.name}.{dtype.name.lower()}"
        producer = value.producer()
        assert producer is not None
        known = [user.outputs[0] for user in value.consumers() if user.outputs[0].name == name]
        if not known:
            cast = ir.node("Cast", [value], {"to": int(dtype)})
            cast.outputs[0].name, cast.outputs[0].dtype = name, dtype
            graph.insert_after(producer, cast)
            known = list(cast.outputs)
        node.replace_input_with(place, known[0])


def _single_logits(graph: ir.Graph) -> None:
    logits = graph.outputs[0]
    if logits.dtype == _SINGLE:
        return
    cast = ir.node("Cast", [logits], {"to": int(_SINGLE)})
    single = cast.outputs[0]
    single.name, logits.name = logits.name, f"{logits.name}.half"
    single.shape, single.type = logits.shape, ir.TensorType(_SINGLE)
    graph.append(cast)
    graph.outputs[0] = single
