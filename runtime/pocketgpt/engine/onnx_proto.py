"""ONNX's messages (onnx.proto), as far as graphs are changed or made here: fields, and parts."""

from __future__ import annotations

from collections.abc import Sequence

from .protobuf import field, number_field

# Numbers of fields, by message.
MODEL_IR, MODEL_GRAPH, MODEL_OPSET = 1, 7, 8
OPSET_VERSION = 2
GRAPH_NODE, GRAPH_NAME, GRAPH_INITIALIZER, GRAPH_INPUT, GRAPH_OUTPUT = 1, 2, 5, 11, 12
NODE_INPUT, NODE_OUTPUT, NODE_NAME, NODE_OPERATOR, NODE_ATTRIBUTE = 1, 2, 3, 4, 5
ATTRIBUTE_NAME, ATTRIBUTE_INT, ATTRIBUTE_TENSOR, ATTRIBUTE_GRAPH, ATTRIBUTE_KIND = 1, 3, 5, 6, 20
VALUE_NAME, VALUE_TYPE = 1, 2
TYPE_TENSOR = 1  # of TypeProto
ELEMENT_KIND, SHAPE = 1, 2  # of TypeProto.Tensor
DIMENSION, DIMENSION_NAME = 1, 2  # of TensorShapeProto, and of its dimensions
TENSOR_DIMENSION, TENSOR_KIND, TENSOR_NAME, TENSOR_BYTES, TENSOR_EXTERNAL = 1, 2, 8, 9, 13
ENTRY_KEY, ENTRY_VALUE = 1, 2

FLOAT, INT32, INT64, BOOL, FLOAT16 = 1, 6, 7, 9, 10  # TensorProto.DataType
_SIZES = {FLOAT: 4, INT64: 8}
_IS_INT, _IS_GRAPH = 2, 5  # AttributeProto.AttributeType


def value_info(name: str, kind: int, dimensions: Sequence[str]) -> bytes:
    """Return a ValueInfoProto: a tensor's name, its TensorProto.DataType, its dimensions' names."""
    dims = [field(DIMENSION, field(DIMENSION_NAME, dimension.encode())) for dimension in dimensions]
    tensor = number_field(ELEMENT_KIND, kind) + field(SHAPE, b"".join(dims))
    return field(VALUE_NAME, name.encode()) + field(VALUE_TYPE, field(TYPE_TENSOR, tensor))


def node_of(
    operator: str,
    inputs: Sequence[str],
    outputs: Sequence[str],
    attributes: Sequence[bytes] = (),
    name: str = "",
) -> bytes:
    """Return a NodeProto of ONNX's own operators, named as its first output unless told."""
    texts = [*((NODE_INPUT, one) for one in inputs), *((NODE_OUTPUT, one) for one in outputs)]
    texts += [(NODE_NAME, name or outputs[0]), (NODE_OPERATOR, operator)]
    parts = [field(number, text.encode()) for number, text in texts]
    return b"".join([*parts, *(field(NODE_ATTRIBUTE, one) for one in attributes)])


def number_attribute(name: str, value: int) -> bytes:
    """Return an AttributeProto that is a whole number."""
    return _attribute(name, number_field(ATTRIBUTE_INT, value), _IS_INT)


def graph_attribute(name: str, nodes: Sequence[bytes], outputs: Sequence[str]) -> bytes:
    """Return an AttributeProto that is a graph without inputs of its own: a branch."""
    parts = [field(GRAPH_NODE, one) for one in nodes]
    parts.append(field(GRAPH_NAME, name.encode()))
    parts += [field(GRAPH_OUTPUT, field(VALUE_NAME, one.encode())) for one in outputs]
    return _attribute(name, field(ATTRIBUTE_GRAPH, b"".join(parts)), _IS_GRAPH)


def _attribute(name: str, value: bytes, kind: int) -> bytes:
    return field(ATTRIBUTE_NAME, name.encode()) + value + number_field(ATTRIBUTE_KIND, kind)


def tensor(name: str, kind: int, numbers: bytes) -> bytes:
    """Return a TensorProto of one dimension, of so many numbers as there are in the bytes."""
    size = len(numbers) // _SIZES[kind]
    head = number_field(TENSOR_DIMENSION, size) + number_field(TENSOR_KIND, kind)
    return head + field(TENSOR_NAME, name.encode()) + field(TENSOR_BYTES, numbers)
