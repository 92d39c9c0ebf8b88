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

from pathlib import Path

from ..errors import ModelFolderError
from ..folder.onnxruntime_version import is_onnxruntime
from .attention import ATTENTION, is_attention
from .contract import BATCH_SIZE, QUERY_LENGTHS
from .onnx_proto import (
    ATTRIBUTE_GRAPH,
    GRAPH_INPUT,
    GRAPH_NODE,
    INT32,
    MODEL_GRAPH,
    NODE_ATTRIBUTE,
    NODE_INPUT,
    value_info,
)
from .protobuf import Fields, edited, field, fields
from .providers import Provider, find_provider

FIRST_ONNXRUNTIME = "1.32"  # that has the input
_PLACE = 16  # of query_seqlens among its inputs
_SCALES = 12  # of the 8-bit keys' scale


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
        if not any(number == MODEL_GRAPH for number, _, _ in fields(model)):
            raise ValueError("it has no graph")
        return edited(model, {MODEL_GRAPH: _with_input})
    except (IndexError, ValueError) as error:
        raise ModelFolderError(f"{where} takes no rows of different lengths: {error}") from None


def _with_input(graph: bytes) -> bytes:
    changed = edited(graph, {GRAPH_NODE: _node})
    if changed == graph:
        raise ValueError("it has no GroupQueryAttention")
    parts = [*fields(changed)]
    last = max(place for place, (number, _, _) in enumerate(parts) if number == GRAPH_INPUT)
    whole = [whole for _, _, whole in parts]
    added = field(GRAPH_INPUT, value_info(QUERY_LENGTHS, INT32, [BATCH_SIZE]))
    return b"".join([*whole[: last + 1], added, *whole[last + 1 :]])


def _node(node: bytes, inside: bool = False) -> bytes:
    """Return a node as it is, or an attention with lengths; its branches likewise."""
    if ATTENTION not in node:
        return node
    parts = [*fields(node)]
    if is_attention(parts):
        return _with_lengths(parts, inside)
    return edited(node, {NODE_ATTRIBUTE: _branch})


def _branch(attribute: bytes) -> bytes:
    """Return an attribute of a node; where it is a graph, with its attentions' lengths."""

    def graph(content: bytes) -> bytes:
        return edited(content, {GRAPH_NODE: lambda node: _node(node, True)})

    return edited(attribute, {ATTRIBUTE_GRAPH: graph})


def _with_lengths(parts: Fields, inside: bool) -> bytes:
    """Return an attention with one more input; those it leaves out before have empty names."""
    inputs = [part for number, part, _ in parts if number == NODE_INPUT]
    if inside and len(inputs) <= _SCALES:
        return b"".join(whole for _, _, whole in parts)
    if len(inputs) > _PLACE:
        raise ValueError("it has the input already")
    inputs += [b""] * (_PLACE - len(inputs)) + [QUERY_LENGTHS.encode()]
    others = [whole for number, _, whole in parts if number != NODE_INPUT]
    return b"".join([*(field(NODE_INPUT, name) for name in inputs), *others])
