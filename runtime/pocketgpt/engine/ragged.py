"""Chunks of different lengths in one pass: a graph once more, with each row's number of tokens.

ONNX Runtime 1.32 gave GroupQueryAttention one more input, `query_seqlens`: how many tokens of each
row's chunk, padded on the right, are real (onnxruntime's docs/ContribOperators.md). Older ones
refuse a graph that has it, so folders hold graphs without, and this adds it: an input
`query_lengths` of the graph, and the last one of each attention. Of two branches over an 8-bit
cache that one gets it which appends in place: only one text, or none yet, goes the other way.

The file is read as what it is, fields of a protocol buffer: nothing is decoded but what is changed,
every other byte stays, and so do the weights, which lie beside it.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ..errors import ModelFolderError
from ..folder.onnxruntime_version import is_onnxruntime
from . import protobuf
from .contract import BATCH_SIZE, QUERY_LENGTHS
from .providers import Provider, find_provider

FIRST_ONNXRUNTIME = "1.32"  # that has the input
_ATTENTION = b"GroupQueryAttention"
_PLACE = 16  # of query_seqlens among its inputs
_SCALES = 12  # of the 8-bit keys' scale

# Numbers of fields in onnx.proto.
_GRAPH = 7  # of ModelProto
_NODE, _INPUT = 1, 11  # of GraphProto
_NODE_INPUT, _OP_TYPE, _ATTRIBUTE = 1, 4, 5  # of NodeProto
_SUBGRAPH = 6  # of AttributeProto
_INT32 = 6  # TensorProto.DataType


def takes_query_lengths(provider: Provider) -> bool:
    """Whether what runs a graph takes the input; no provider but the CPU's was tried."""
    return is_onnxruntime(FIRST_ONNXRUNTIME) and find_provider(provider).is_cpu


def write_ragged_graph(source: Path, target: Path) -> None:
    """Write a fused graph once more, with the input `query_lengths [batch_size]`, int32.

    Its weights stay where they are: `target` has to lie in the folder of `source`.

    Raises:
        ModelFolderError: it is no fused graph.
    """
    target.write_bytes(with_query_lengths(source.read_bytes(), source))


def with_query_lengths(model: bytes, where: object = "the graph") -> bytes:
    """Return a fused graph, a file's bytes, with the input `query_lengths [batch_size]`, int32.

    Args:
        model: the bytes of an .onnx file.
        where: what to call it in an error.

    Raises:
        ModelFolderError: it is no fused graph, or has the input already.
    """
    try:
        fields = [*protobuf.fields(model)]
        if not any(number == _GRAPH for number, _, _ in fields):
            raise ValueError("it has no graph")
        parts = [
            protobuf.field(_GRAPH, _with_input(part)) if number == _GRAPH else whole
            for number, part, whole in fields
        ]
    except (IndexError, ValueError) as error:
        raise ModelFolderError(f"{where} takes no rows of different lengths: {error}") from None
    return b"".join(parts)


def _with_input(graph: bytes) -> bytes:
    fields = [*protobuf.fields(graph)]
    parts = [
        protobuf.field(_NODE, _node(part)) if number == _NODE else whole
        for number, part, whole in fields
    ]
    if parts == [whole for _, _, whole in fields]:
        raise ValueError("it has no GroupQueryAttention")
    last = max(place for place, (number, _, _) in enumerate(fields) if number == _INPUT)
    added = protobuf.value_info(QUERY_LENGTHS, _INT32, [BATCH_SIZE])
    parts.insert(last + 1, protobuf.field(_INPUT, added))
    return b"".join(parts)


def _node(node: bytes, inside: bool = False) -> bytes:
    """Return a node as it is, or an attention with lengths; its branches likewise."""
    fields = [*protobuf.fields(node)]
    if any((number, part) == (_OP_TYPE, _ATTENTION) for number, part, _ in fields):
        return _with_lengths(fields, inside)
    changed = [
        protobuf.field(_ATTRIBUTE, _branch(part)) if number == _ATTRIBUTE else whole
        for number, part, whole in fields
    ]
    return b"".join(changed)


def _branch(attribute: bytes) -> bytes:
    """Return an attribute of a node; where it is a graph, with its attentions' lengths."""
    changed = []
    for number, part, whole in protobuf.fields(attribute):
        if number == _SUBGRAPH:
            nodes = [
                protobuf.field(_NODE, _node(node, True)) if n == _NODE else other
                for n, node, other in protobuf.fields(part)
            ]
            whole = protobuf.field(_SUBGRAPH, b"".join(nodes))
        changed.append(whole)
    return b"".join(changed)


def _with_lengths(fields: Sequence[tuple[int, bytes, bytes]], inside: bool) -> bytes:
    """Return an attention with one more input; those it leaves out before have empty names."""
    inputs = [part for number, part, _ in fields if number == _NODE_INPUT]
    if inside and len(inputs) <= _SCALES:
        return b"".join(whole for _, _, whole in fields)
    if len(inputs) > _PLACE:
        raise ValueError("it has the input already")
    inputs += [b""] * (_PLACE - len(inputs)) + [QUERY_LENGTHS.encode()]
    others = [whole for number, _, whole in fields if number != _NODE_INPUT]
    return b"".join([*(protobuf.field(_NODE_INPUT, name) for name in inputs), *others])
