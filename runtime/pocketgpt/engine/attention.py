"""Attention in the faster of ONNX Runtime's two ways: a graph once more, with a choice in it.

GroupQueryAttention on the CPU goes through a float32 cache tile by tile (flash), the faster way for
a step, or computes whole products, the faster one for a chunk of a prompt; over an 8-bit cache
whole products are faster for both (`benchmarks/attention.py`). It takes tiles wherever it can, and
cannot where it has an input `head_sink`, what each head's softmax also divides by. A sink of no
weight changes nothing. So here each attention over a float32 cache becomes two, between which the
number of tokens decides, and those of an 8-bit cache's branches get the sink.

The file is read as ragged.py reads it: every byte stays but what is changed, and so do the weights.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

from ..errors import ModelFolderError
from . import protobuf
from .contract import INPUT_IDS, past_name

MOST_TILED = 16  # tokens of a row; up to some 24 either way takes as long
NO_WEIGHT = -1e30  # a score so far below any other that e to its power is 0
_ATTENTION = b"GroupQueryAttention"
_PLACE = 11  # of head_sink among its inputs
_SINK, _MOST, _TOKENS, _FEW = "attention.sink", "attention.most", "attention.tokens", "few_tokens"

# Numbers of fields in onnx.proto.
_GRAPH = 7  # of ModelProto
_NODE, _GRAPH_NAME, _INITIALIZER, _INPUT, _OUTPUT = 1, 2, 5, 11, 12  # of GraphProto
_READS, _MAKES, _NAME, _OP_TYPE, _ATTRIBUTE = 1, 2, 3, 4, 5  # of NodeProto
_INT, _SUBGRAPH, _KIND = 3, 6, 20  # of AttributeProto
_DIMS, _DATA_TYPE, _TENSOR_NAME, _RAW = 1, 2, 8, 9  # of TensorProto
_IS_INT, _IS_GRAPH = 2, 5  # AttributeProto.AttributeType
_FLOAT, _INT64 = 1, 7  # TensorProto.DataType

Fields = Sequence[tuple[int, bytes, bytes]]


def with_chosen_attention(model: bytes, heads: int) -> bytes:
    """Return a fused graph, a file's bytes, whose attention goes the faster way.

    One over a cache of float16 stays as it is: it knows whole products alone.

    Args:
        model: the bytes of an .onnx file.
        heads: how many each attention has.

    Raises:
        ModelFolderError: it is no graph.
    """
    try:
        return protobuf.edited(model, {_GRAPH: lambda graph: _chosen(graph, heads)})
    except (IndexError, ValueError) as error:
        raise ModelFolderError(f"the graph's attention cannot be chosen: {error}") from None


def _chosen(graph: bytes, heads: int) -> bytes:
    sink = protobuf.field(
        _INITIALIZER, _tensor(_SINK, _FLOAT, struct.pack("<f", NO_WEIGHT) * heads)
    )
    inputs = (part for number, part, _ in protobuf.fields(graph) if number == _INPUT)
    if any(map(_is_float32_cache, inputs)):
        return b"".join([*_decision(), sink, protobuf.edited(graph, {_NODE: _parted})])
    whole = protobuf.edited(graph, {_NODE: _in_branches})
    return graph if whole == graph else sink + whole


def _is_float32_cache(value_info: bytes) -> bool:
    name, kind = (part for number, part, _ in protobuf.fields(value_info) if number in (1, 2))
    (tensor,) = (part for _, part, _ in protobuf.fields(kind))
    of_float32 = protobuf.number_field(1, _FLOAT)
    return name.decode() == past_name(0, "key") and tensor.startswith(of_float32)


def _decision() -> list[bytes]:
    """Return what tells whether few tokens come: two nodes, and how many are few."""
    place = [_number("start", 1), _number("end", 2)]
    tokens = _node("Shape", [INPUT_IDS], [_TOKENS], place)
    few = _node("LessOrEqual", [_TOKENS, _MOST], [_FEW])
    most = _tensor(_MOST, _INT64, struct.pack("<q", MOST_TILED))
    nodes = (protobuf.field(_NODE, node) for node in (tokens, few))
    return [*nodes, protobuf.field(_INITIALIZER, most)]


def _parted(node: bytes) -> bytes:
    """Return a node as it is, or instead of an attention the choice between two."""
    fields = [*protobuf.fields(node)]
    if not _is_attention(fields):
        return node
    name, made = _texts(fields, _NAME)[0], _texts(fields, _MAKES)
    ways = []
    for branch, way in (("then_branch", fields), ("else_branch", _whole(fields))):
        outputs = [f"{one}.{branch}" for one in made]
        others = b"".join(whole for number, _, whole in way if number != _MAKES)
        attention = b"".join(protobuf.field(_MAKES, one.encode()) for one in outputs) + others
        graph = [protobuf.field(_NODE, attention), protobuf.field(_GRAPH_NAME, branch.encode())]
        graph += [protobuf.field(_OUTPUT, protobuf.field(1, one.encode())) for one in outputs]
        ways.append(_attribute(branch, protobuf.field(_SUBGRAPH, b"".join(graph)), _IS_GRAPH))
    return _node("If", [_FEW], made, ways, f"{name}.choice")


def _in_branches(node: bytes) -> bytes:
    """Return a node whose branches' attentions compute whole products."""

    def inner(node: bytes) -> bytes:
        fields = [*protobuf.fields(node)]
        return b"".join(w for _, _, w in _whole(fields)) if _is_attention(fields) else node

    def subgraph(graph: bytes) -> bytes:
        return protobuf.edited(graph, {_NODE: inner})

    def attribute(content: bytes) -> bytes:
        return protobuf.edited(content, {_SUBGRAPH: subgraph})

    return protobuf.edited(node, {_ATTRIBUTE: attribute})


def _whole(fields: Fields) -> list[tuple[int, bytes, bytes]]:
    """Return an attention that computes whole products: with the sink among its inputs."""
    inputs = [part for number, part, _ in fields if number == _READS]
    inputs += [b""] * (_PLACE + 1 - len(inputs))
    inputs[_PLACE] = _SINK.encode()
    reads = [(_READS, name, protobuf.field(_READS, name)) for name in inputs]
    return [*reads, *(one for one in fields if one[0] != _READS)]


def _is_attention(fields: Fields) -> bool:
    return any((number, part) == (_OP_TYPE, _ATTENTION) for number, part, _ in fields)


def _texts(fields: Fields, wanted: int) -> list[str]:
    return [part.decode() for number, part, _ in fields if number == wanted]


def _node(
    operator: str,
    reads: Sequence[str],
    makes: Sequence[str],
    attributes: Sequence[bytes] = (),
    name: str = "",
) -> bytes:
    texts = [*((_READS, one) for one in reads), *((_MAKES, one) for one in makes)]
    texts += [(_NAME, name or makes[0]), (_OP_TYPE, operator)]
    parts = [protobuf.field(number, text.encode()) for number, text in texts]
    return b"".join([*parts, *(protobuf.field(_ATTRIBUTE, one) for one in attributes)])


def _number(name: str, value: int) -> bytes:
    return _attribute(name, protobuf.number_field(_INT, value), _IS_INT)


def _attribute(name: str, value: bytes, kind: int) -> bytes:
    return protobuf.field(1, name.encode()) + value + protobuf.number_field(_KIND, kind)


def _tensor(name: str, kind: int, numbers: bytes) -> bytes:
    """Return a TensorProto of one dimension."""
    size = len(numbers) // {_FLOAT: 4, _INT64: 8}[kind]
    head = protobuf.number_field(_DIMS, size) + protobuf.number_field(_DATA_TYPE, kind)
    return head + protobuf.field(_TENSOR_NAME, name.encode()) + protobuf.field(_RAW, numbers)
