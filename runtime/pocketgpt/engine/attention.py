"""Attention in the faster of ONNX Runtime's two ways: a graph once more, with a choice in it.

GroupQueryAttention on the CPU goes through a float32 cache tile by tile (flash), the faster way for
a step, or computes whole products, the faster one for a chunk of a prompt; over an 8-bit cache
whole products are faster for both (`benchmarks/attention.py`). It takes tiles wherever it can, and
cannot where it has an input `head_sink`, what each head's softmax also divides by. A sink of no
weight changes nothing. So here each attention over a float32 cache becomes two, between which the
number of tokens decides, and those of an 8-bit cache's branches get the sink. A choice takes a step
some time in every layer: of narrow models more than it saves their prompts.

The file is read as ragged.py reads it: every byte stays but what is changed, and so do the weights.
"""

from __future__ import annotations

import struct

from ..errors import ModelFolderError
from ..folder.config import ModelConfig
from .contract import INPUT_IDS, past_name
from .onnx_proto import (
    ATTRIBUTE_GRAPH,
    ELEMENT_KIND,
    FLOAT,
    GRAPH_INITIALIZER,
    GRAPH_INPUT,
    GRAPH_NODE,
    INT64,
    MODEL_GRAPH,
    NODE_ATTRIBUTE,
    NODE_INPUT,
    NODE_NAME,
    NODE_OPERATOR,
    NODE_OUTPUT,
    TYPE_TENSOR,
    VALUE_NAME,
    VALUE_TYPE,
    graph_attribute,
    node_of,
    number_attribute,
    tensor,
)
from .protobuf import Fields, edited, field, fields, number_field

WIDE = 768  # n_embd, from which on there is a choice
MOST_TILED = 16  # tokens of a row; up to some 24 either way takes as long
NO_WEIGHT = -1e30  # a score so far below any other that e to its power is 0
ATTENTION = b"GroupQueryAttention"
_PLACE = 11  # of head_sink among its inputs
_SINK, _MOST, _TOKENS, _FEW = "attention.sink", "attention.most", "attention.tokens", "few_tokens"


def with_chosen_attention(model: bytes, config: ModelConfig) -> bytes:
    """Return a fused graph, a file's bytes, whose attention goes the faster way.

    One over a cache of float16 stays as it is: it knows whole products alone.

    Args:
        model: the bytes of an .onnx file.
        config: the model's shape.

    Raises:
        ModelFolderError: it is no graph.
    """
    try:
        return edited(model, {MODEL_GRAPH: lambda graph: _chosen(graph, config)})
    except (IndexError, KeyError, ValueError) as error:
        raise ModelFolderError(f"the graph's attention cannot be chosen: {error}") from None


def _chosen(graph: bytes, config: ModelConfig) -> bytes:
    sink = _constant(_SINK, FLOAT, struct.pack("<f", NO_WEIGHT) * config.n_head)
    inputs = (part for number, part, _ in fields(graph) if number == GRAPH_INPUT)
    if any(map(_is_float32_cache, inputs)):
        if config.n_embd < WIDE:
            return graph
        return b"".join([*_decision(), sink, edited(graph, {GRAPH_NODE: _parted})])
    whole = edited(graph, {GRAPH_NODE: _whole_in_branches})
    return graph if whole == graph else sink + whole


def _is_float32_cache(value: bytes) -> bool:
    """Whether a ValueInfoProto is of the first layer's keys, in float32."""
    said = {number: part for number, part, _ in fields(value)}
    of_tensor = {number: part for number, part, _ in fields(said[VALUE_TYPE])}[TYPE_TENSOR]
    kinds = [whole for number, _, whole in fields(of_tensor) if number == ELEMENT_KIND]
    return said[VALUE_NAME].decode() == past_name(0, "key") and kinds == [
        number_field(ELEMENT_KIND, FLOAT)
    ]


def _decision() -> list[bytes]:
    """Return what tells whether few tokens come: two nodes, and how many are few."""
    place = [number_attribute("start", 1), number_attribute("end", 2)]
    tokens = node_of("Shape", [INPUT_IDS], [_TOKENS], place)
    few = node_of("LessOrEqual", [_TOKENS, _MOST], [_FEW])
    most = _constant(_MOST, INT64, struct.pack("<q", MOST_TILED))
    return [field(GRAPH_NODE, tokens), field(GRAPH_NODE, few), most]


def _constant(name: str, kind: int, numbers: bytes) -> bytes:
    return field(GRAPH_INITIALIZER, tensor(name, kind, numbers))


def _parted(node: bytes) -> bytes:
    """Return a node as it is, or instead of an attention the choice between two."""
    parts = [*fields(node)] if ATTENTION in node else []
    if not is_attention(parts):
        return node
    name, outputs = _texts(parts, NODE_NAME)[0], _texts(parts, NODE_OUTPUT)
    branches = []
    for branch, way in (("then_branch", parts), ("else_branch", _whole(parts))):
        inner = [f"{one}.{branch}" for one in outputs]
        made = [field(NODE_OUTPUT, one.encode()) for one in inner]
        others = [whole for number, _, whole in way if number != NODE_OUTPUT]
        branches.append(graph_attribute(branch, [b"".join([*made, *others])], inner))
    return node_of("If", [_FEW], outputs, branches, f"{name}.choice")


def _whole_in_branches(node: bytes) -> bytes:
    """Return a node whose branches' attentions compute whole products."""

    def inner(node: bytes) -> bytes:
        parts = [*fields(node)]
        return b"".join(w for _, _, w in _whole(parts)) if is_attention(parts) else node

    def branch(graph: bytes) -> bytes:
        return edited(graph, {GRAPH_NODE: inner})

    def attribute(content: bytes) -> bytes:
        return edited(content, {ATTRIBUTE_GRAPH: branch})

    return edited(node, {NODE_ATTRIBUTE: attribute}) if ATTENTION in node else node


def _whole(parts: Fields) -> Fields:
    """Return an attention that computes whole products: with the sink among its inputs."""
    inputs = [part for number, part, _ in parts if number == NODE_INPUT]
    inputs += [b""] * (_PLACE + 1 - len(inputs))
    inputs[_PLACE] = _SINK.encode()
    read = [(NODE_INPUT, name, field(NODE_INPUT, name)) for name in inputs]
    return [*read, *(one for one in parts if one[0] != NODE_INPUT)]


def is_attention(parts: Fields) -> bool:
    """Whether the fields of a NodeProto are an attention's."""
    return any((number, part) == (NODE_OPERATOR, ATTENTION) for number, part, _ in parts)


def _texts(parts: Fields, wanted: int) -> list[str]:
    return [part.decode() for number, part, _ in parts if number == wanted]
