"""The fp32 graph with MatMulNBits for its products and its embedding stored once, packed."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from pocketgpt import QuantizationError
from pocketgpt.engine.contract import SCORE_WEIGHT

from ..rounding.format import BlockwiseWeight, Floats
from ..rounding.scheme import KINDS, Kind
from .scratch import Scratch

DOMAIN = "com.microsoft"
INLINE_BYTES = 256  # shape inference reads small constants from the graph itself
INT8_ACTIVATIONS = 4  # MatMulNBits' accuracy_level: quantize activations per row and block

Quantizer = Callable[[str, Kind, Floats], BlockwiseWeight]
Progress = Callable[[int, int], None]


def quantize_blockwise(
    graph: ir.Graph,
    quantizer: Quantizer,
    progress: Progress | None = None,
    means: Mapping[str, Floats] | None = None,
    scratch: Scratch | None = None,
    kinds: Collection[Kind] = KINDS,
) -> dict[str, int]:
    """Quantize the weights of an fp32 graph that are of some kinds.

    They are read one at a time from the memory-mapped source; `quantizer` is called with the name,
    the kind and the values `[out, in]` of each. `means`, `[in]` by weight, are of what products
    read on real text: what rounding adds to their mean outputs is taken from the biases. Until the
    graph is saved, stored numbers lie in files of `scratch`, without one in memory.

    Returns:
        The stored bits of every weight matrix, by name.
    """
    uses = {n: users for n, users in weights_of(graph).items() if kind_of(users) in kinds}
    bits: dict[str, int] = {}
    for done, (name, nodes) in enumerate(uses.items()):
        kind = kind_of(nodes)
        matrix = matrix_of(graph, name, nodes)
        quantized = quantizer(name, kind, matrix)
        if means and name in means:
            lost = matrix - quantized.dequantized(matrix.shape[1])
            _add_to_bias(nodes[0], (lost @ means[name]).astype(np.float32))
        bits[name] = quantized.format.bits
        stored = _add_weight(graph, name, quantized)
        if scratch is not None:
            put_aside(stored[0], scratch)
        for node in nodes:
            if node.op_type == "Gather":
                _replace_gather(graph, node, stored, quantized, checked=kind == "positions")
            else:
                _replace_product(graph, node, stored, quantized)
        del matrix, quantized  # the one is a view of the file where nothing was folded in
        release(graph.initializers.pop(name).const_value)
        if progress:
            progress(done + 1, len(uses))
    return bits


def load_graph(source: Path) -> ir.Model:
    """Read a graph that `pocketgpt export` wrote; its weights stay in their file.

    Raises:
        QuantizationError: it has no products or no embedding, or one matrix for two products.
    """
    model = ir.load(source)
    kinds = {node.op_type for nodes in weights_of(model.graph).values() for node in nodes}
    if not {"Gather", "MatMul"} <= kinds:
        raise QuantizationError(f"{source} has no products to quantize; export the model again")
    names = [product.weight for product in products_of(model.graph)]
    shared = next((name for name in names if names.count(name) > 1), None)
    if shared is not None:  # the exporter stores small equal matrices once
        raise QuantizationError(
            f"{source} has matrices equal to {shared}: a model that was trained has none"
        )
    return model


def weights_of(graph: ir.Graph) -> dict[str, list[ir.Node]]:
    """Return every weight matrix by name, with the lookups and products that use it, in order.

    But a classifier's head: it is small, decides everything, and stays as it is.
    """
    found: dict[str, list[ir.Node]] = {}
    for node in graph:
        place = {"Gather": 0, "MatMul": 1, "FusedMatMul": 1}.get(node.op_type)
        weight = node.inputs[place] if place is not None else None
        if weight is not None and weight.is_initializer() and weight.name in graph.initializers:
            assert weight.name is not None
            if weight.name == SCORE_WEIGHT:
                continue
            found.setdefault(weight.name, []).append(node)
    return found


@dataclass(frozen=True)
class Product:
    """A product by a weight: the weight's name, the name of what it multiplies, its width."""

    weight: str
    input: str
    width: int


def products_of(graph: ir.Graph) -> list[Product]:
    """Return the products of weights, in the order in which `weights_of` has those."""
    found = []
    for name, nodes in weights_of(graph).items():
        for node in nodes:
            if node.op_type != "Gather":
                assert node.inputs[0] is not None
                assert node.inputs[0].name is not None
                found.append(Product(name, node.inputs[0].name, _inputs_of(node)))
    return found


def kind_of(nodes: list[ir.Node]) -> Kind:
    """Return what a weight is by how it is used: multiplied by, looked up in, or both."""
    uses = {node.op_type for node in nodes}
    if "Gather" not in uses:
        return "layer"
    return "positions" if uses == {"Gather"} else "embedding"


def matrix_of(graph: ir.Graph, name: str, nodes: list[ir.Node]) -> Floats:
    """Return a weight as `[out, in]`; embeddings lie so, the others transposed."""
    array = array_of(graph.initializers[name])
    return array.T if any(node.op_type == "MatMul" for node in nodes) else array


def array_of(value: ir.Value | None) -> Floats:
    """Return what an initializer holds."""
    assert value is not None
    assert value.const_value is not None
    array: Floats = value.const_value.numpy()
    return array


def release(tensor: ir.TensorProtocol | None) -> None:
    """Unmap a weight's file: pages that were read count as memory until then."""
    if isinstance(tensor, ir.ExternalTensor):
        tensor.release()


def check_weights(source: Path) -> None:
    """Refuse a graph whose weights hold NaN or infinity, or cannot be read.

    Raises:
        QuantizationError: one of them.
    """
    try:
        graph = ir.load(source).graph
    except Exception as error:  # protobuf's and onnx_ir's, of many kinds
        reason = " ".join(str(error).split())
        raise QuantizationError(f"{source} cannot be read: {reason:.200}") from error
    for name, value in graph.initializers.items():
        assert value.const_value is not None
        try:
            array = value.const_value.numpy()
        except ValueError as error:  # onnx_ir's, such as of a link to somewhere else
            raise QuantizationError(f"the weights of {source} cannot be read: {error}") from error
        if not np.isfinite(array).all():
            raise QuantizationError(
                f"the weights hold NaN or infinity, in {name}; mend the checkpoint"
            )
        del array
        release(value.const_value)


Stored = tuple[ir.Value, ir.Value, ir.Value | None]  # packed, scales, zero points


def _add_weight(graph: ir.Graph, name: str, quantized: BlockwiseWeight) -> Stored:
    packed = add_initializer(graph, f"{name}.packed", quantized.packed)
    scales = add_initializer(graph, f"{name}.scales", quantized.scales)
    if quantized.zero_points is None:
        return packed, scales, None
    return packed, scales, add_initializer(graph, f"{name}.zero_points", quantized.zero_points)


def add_initializer(graph: ir.Graph, name: str, array: NDArray[np.generic]) -> ir.Value:
    """Add a constant to a graph."""
    tensor = ir.tensor(array, name=name)
    kind = ir.TensorType(tensor.dtype)
    value = ir.Value(name=name, shape=ir.Shape(array.shape), type=kind, const_value=tensor)
    graph.initializers.add(value)
    return value


def read_through(graph: ir.Graph, value: ir.Value, nodes: Sequence[ir.Node]) -> None:
    """Put nodes, of which the first reads `value`, between it and all others who read it."""
    first, new = nodes[0], nodes[-1].outputs[0]
    new.shape, new.type = value.shape, value.type
    value.replace_all_uses_with(new, replace_graph_outputs=True)
    first.replace_input_with(0, value)
    producer = value.producer()
    if producer is None:  # an input of the graph, known by its name
        new.name = f"{value.name}.read"
        graph.insert_before(graph[0], nodes)
    else:
        new.name, value.name = value.name, f"{value.name}.made"
        graph.insert_after(producer, nodes)


def put_aside(value: ir.Value, scratch: Scratch) -> None:
    """Move a constant to a file, so that it takes no memory while others are made."""
    tensor = value.const_value
    assert tensor is not None
    assert value.name is not None
    path = scratch.path(value.name)
    tensor.numpy().tofile(path)
    value.const_value = ir.ExternalTensor(
        path.name,
        0,
        tensor.nbytes,
        tensor.dtype,
        shape=ir.Shape(tensor.shape.numpy()),
        name=value.name,
        base_dir=path.parent,
    )


def _replace_product(
    graph: ir.Graph, node: ir.Node, weight: Stored, quantized: BlockwiseWeight
) -> None:
    """Replace a product, and the bias addition after it if there is one, by MatMulNBits."""
    packed, scales, zeros = weight
    bias = bias_of(node)
    product = ir.node(
        "MatMulNBits",
        [node.inputs[0], packed, scales, zeros, *([] if bias is None else [None, bias])],
        {
            "K": _inputs_of(node),
            "N": quantized.packed.shape[0],
            "bits": quantized.format.bits,
            "block_size": quantized.format.block_size,
            "accuracy_level": INT8_ACTIVATIONS,
        },
        domain=DOMAIN,
        version=1,
        name=node.name,
    )
    replace_biased(graph, node, [product])


def bias_of(node: ir.Node) -> ir.Value | None:
    """Return what is added to a product, where that is a constant."""
    addition = _bias_addition(node)
    return None if addition is None else addition.inputs[1]


def replace_biased(graph: ir.Graph, node: ir.Node, new: list[ir.Node]) -> None:
    """Replace a product and its bias addition, where it has one, by nodes that end in the sum."""
    addition = _bias_addition(node)
    old = [node] if addition is None else [node, addition]
    last, output = old[-1].outputs[0], new[-1].outputs[0]
    output.name, output.shape, output.type = last.name, last.shape, last.type
    ir.convenience.replace_nodes_and_values(graph, node, old, new, [last], [output])


def _add_to_bias(product: ir.Node, correction: Floats) -> None:
    bias = bias_of(product)
    assert bias is not None
    assert bias.const_value is not None
    bias.const_value = ir.tensor(bias.const_value.numpy() + correction, name=bias.name)


def halve_vectors(graph: ir.Graph) -> None:
    """Store scales in 16 bits where that changes none, and the head's offsets rounded to them.

    ONNX Runtime widens them when it loads. An offset of 16 bits is within 0.05% of what it was;
    there are as many as tokens.
    """
    for name in [name for name in graph.initializers if name.endswith((".scales", ".offset"))]:
        value = graph.initializers[name]
        exact = array_of(value)
        with np.errstate(over="ignore"):
            half = exact.astype(np.float16)
        if not np.isfinite(half).all() or (name.endswith(".scales") and (half != exact).any()):
            continue
        stored = add_initializer(graph, f"{name}.half", half)
        widened = ir.node("Cast", [stored], {"to": ir.DataType.FLOAT}, name=f"{name}.cast")
        graph.insert_before(graph[0], widened)
        value.replace_all_uses_with(widened.outputs[0])
        graph.initializers.pop(name)
        widened.outputs[0].name = name


def _inputs_of(node: ir.Node) -> int:
    weight = node.inputs[1]
    assert weight is not None
    assert weight.shape is not None
    return weight.shape.numpy()[1 if node.op_type == "FusedMatMul" else 0]


def _bias_addition(node: ir.Node) -> ir.Node | None:
    consumers = node.outputs[0].consumers()
    if len(consumers) != 1:
        return None
    addition = consumers[0]
    is_bias = addition.op_type == "Add" and addition.inputs[0] is node.outputs[0]
    right = addition.inputs[1] if is_bias else None
    return addition if right is not None and right.is_initializer() else None


def _replace_gather(
    graph: ir.Graph, node: ir.Node, weight: Stored, quantized: BlockwiseWeight, *, checked: bool
) -> None:
    """Look an embedding up in packed bytes, the head's where it has one.

    GatherBlockQuantized wants them as `[vocab, width * bits / 8]`: the initializer made here gets
    the place of the `.packed` one in the weights file in `save`.
    """
    packed, scales, zeros = weight
    assert packed.name is not None
    rows = quantized.packed.shape[0]
    flat = add_rows(graph, packed)
    index = node.inputs[1]
    if checked:
        # GatherBlockQuantized takes any index, and Gather none out of range: it is how padding on
        # the left fails.
        table = add_initializer(graph, f"{flat.name}.range", np.arange(rows, dtype=np.int64))
        guard = ir.node("Gather", [table, index])
        graph.insert_before(node, guard)
        index = guard.outputs[0]
    lookup = ir.node(
        "GatherBlockQuantized",
        [flat, index, scales, zeros],
        {
            "bits": quantized.format.bits,
            "block_size": quantized.format.block_size,
            "gather_axis": 0,
            "quantize_axis": 1,
        },
        domain=DOMAIN,
        version=1,
        name=node.name,
    )
    new, width, padded = [lookup], _width_of(node), math.prod(quantized.packed.shape[1:])
    if width * quantized.format.bits != padded * 8:  # the last block is not full
        first, last, axis = (
            add_initializer(graph, f"{flat.name}.{name}", np.array([number], np.int64))
            for name, number in (("begin", 0), ("width", width), ("axis", -1))
        )
        new.append(ir.node("Slice", [lookup.outputs[0], first, last, axis]))
    new[-1].outputs[0].name = node.outputs[0].name
    ir.convenience.replace_nodes_and_values(graph, node, [node], new, node.outputs, new[-1].outputs)


def _width_of(lookup: ir.Node) -> int:
    """Return how many numbers a lookup finds for an index."""
    table = lookup.inputs[0]
    assert table is not None
    assert table.shape is not None
    return table.shape.numpy()[1]


def add_rows(graph: ir.Graph, packed: ir.Value) -> ir.Value:
    """Add packed bytes once more, each row's in one."""
    blocks = packed.const_value
    assert blocks is not None
    assert packed.name is not None
    count = blocks.shape.numpy()[0]
    shape = ir.Shape([count, blocks.size // count])
    name = packed.name.removesuffix(".packed") + ".rows"
    rows = ir.LazyTensor(
        lambda: ir.tensor(blocks.numpy().reshape(shape.numpy())),
        dtype=blocks.dtype,
        shape=shape,
        name=name,
    )
    kind = ir.TensorType(blocks.dtype)
    value = ir.Value(name=name, shape=shape, type=kind, const_value=rows)
    graph.initializers.add(value)
    return value


def save(model: ir.Model, target: Path, progress: Progress | None = None) -> None:
    """Save with the weights beside, each run of bytes once: `.rows` take the place of `.packed`.

    `progress` is called with (tensors written, tensors in all).
    """

    def written(_: object, info: ir.external_data.CallbackInfo) -> None:
        if progress:
            progress(info.index + 1, info.total)

    initializers = model.graph.initializers
    aliases = {name: initializers.pop(name) for name in [*initializers] if name.endswith(".rows")}
    ir.external_data.unload_from_model(
        model,
        target.parent,
        f"{target.name}_data",
        size_threshold_bytes=INLINE_BYTES,
        callback=written,
    )
    for name, value in aliases.items():
        twin = name.removesuffix(".rows") + ".packed"
        packed = initializers[twin]
        stored = packed.const_value
        assert isinstance(stored, ir.ExternalTensor)
        assert value.shape is not None
        value.const_value = ir.ExternalTensor(
            stored.location,
            stored.offset,
            stored.length,
            stored.dtype,
            shape=value.shape,
            name=name,
            base_dir=target.parent,
        )
        initializers.add(value)
        if not packed.uses():
            initializers.pop(twin)
    ir.save(model, target)
