"""Let a graph unpack its weights once, when it is opened.

ONNX Runtime's WebAssembly has no kernel for MatMulNBits: at every token it unpacks all weights, one
number at a time, and multiplies in 32 bits. DequantizeLinear over the same bytes is computed when
the graph is opened (with `session.disable_quant_qdq`), and what is left is a MatMul: several times
as fast, for the memory of 32-bit weights. The download stays as small as it was.
"""

from __future__ import annotations

import copy
from pathlib import Path

import onnx
from onnx import NodeProto, TensorProto, helper

TYPES = {4: TensorProto.UINT4, 8: TensorProto.UINT8}


def unpack_at_load(source: Path, target: Path) -> int:
    """Write a graph over the same weights whose products unpack once; return how many do.

    Args:
        source: the graph of a variant, whose weights lie in a file of their own.
        target: where to write it; its weights are looked for beside it, by their old name.
    """
    model = onnx.load(source, load_external_data=False)
    initializers = {tensor.name: tensor for tensor in model.graph.initializer}
    nodes: list[NodeProto] = []
    count = 0
    for node in model.graph.node:
        unpacked = node.op_type == "MatMulNBits" and _unpack(node, initializers)
        nodes += unpacked or [node]
        count += bool(unpacked)
    used = {name for node in nodes for name in node.input} | {i.name for i in model.graph.input}
    kept = [tensor for name, tensor in initializers.items() if name in used]
    for field, values in ((model.graph.node, nodes), (model.graph.initializer, kept)):
        del field[:]
        field.extend(values)
    onnx.save(model, target)
    return count


def _unpack(node: NodeProto, initializers: dict[str, TensorProto]) -> list[NodeProto] | None:
    """Return the nodes that compute a product otherwise; None where its zeros lie otherwise."""
    attributes = {one.name: helper.get_attribute_value(one) for one in node.attribute}
    rows, columns = attributes["N"], attributes["K"]
    bits, block = attributes["bits"], attributes["block_size"]
    blocks = columns // block
    data, packed, scales, zeros, _, bias = [*node.input, "", "", ""][:6]
    if blocks * block != columns or blocks * bits % 8 or bits not in TYPES:
        return None  # rows are padded to whole blocks, or their zeros to whole bytes
    name = node.output[0]
    weights = _as(initializers, packed, f"{name}.weights", TYPES[bits], [rows, columns])
    if zeros:
        zeros = _as(initializers, zeros, f"{name}.zeros", TYPES[bits], [rows, blocks])
    else:
        zeros = f"{name}.zeros"
        middle = {4: b"\x88" * (rows * blocks // 2), 8: b"\x80" * (rows * blocks)}[bits]
        initializers[zeros] = helper.make_tensor(zeros, TYPES[bits], [rows, blocks], middle, True)
    shape = f"{name}.blocks"
    initializers[shape] = helper.make_tensor(shape, TensorProto.INT64, [2], [rows, blocks])
    product = f"{name}.product" if bias else name
    made = [
        helper.make_node("Reshape", [scales, shape], [f"{name}.scales"]),
        helper.make_node(
            "DequantizeLinear",
            [weights, f"{name}.scales", zeros],
            [f"{name}.rows"],
            axis=1,
            block_size=block,
        ),
        helper.make_node("Transpose", [f"{name}.rows"], [f"{name}.columns"], perm=[1, 0]),
        helper.make_node("MatMul", [data, f"{name}.columns"], [product]),
    ]
    return [*made, helper.make_node("Add", [product, bias], [name])] if bias else made


def _as(
    initializers: dict[str, TensorProto], name: str, new: str, kind: int, shape: list[int]
) -> str:
    """Add an initializer over the bytes of another."""
    tensor = copy.deepcopy(initializers[name])
    tensor.name, tensor.data_type, tensor.dims[:] = new, kind, shape
    initializers[new] = tensor
    return new
