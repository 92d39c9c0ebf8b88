"""The fp32 graph with MatMulNBits for its products and its embedding stored once, packed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from pocketgpt import QuantizationError

from .blockwise import BlockwiseWeight, quantize_weight
from .schemes import Scheme

DOMAIN = "com.microsoft"
INLINE_BYTES = 256  # shape inference reads small constants from the graph itself
INT8_ACTIVATIONS = 4  # MatMulNBits' accuracy_level: quantize activations per row and block


def write_quantized(
    source: Path, target: Path, scheme: Scheme, progress: Callable[[int, int], None] | None = None
) -> dict[str, int]:
    """Quantize the fp32 graph at `source` into `target` and its weights, `target` + `_data`.

    Weights are read one at a time from the memory-mapped source.

    Returns:
        The stored bits of every weight matrix, by name.

    Raises:
        QuantizationError: the graph is not one that `pocketgpt export` wrote.
    """
    model = ir.load(source)
    graph = model.graph
    embeddings = _embedding_gathers(graph)
    products = [node for node in graph if node.op_type in ("MatMul", "FusedMatMul")]
    if not products or not embeddings:
        raise QuantizationError(f"{source} has no products to quantize; export the model again")
    bits: dict[str, int] = {}
    packed: dict[str, tuple[ir.Value, ir.Value]] = {}
    for done, node in enumerate(products):
        weight = node.inputs[1]
        assert weight is not None
        assert weight.name is not None
        is_head = node.op_type == "FusedMatMul"
        bits[weight.name] = scheme.embedding_bits if is_head else scheme.layer_bits
        quantized = quantize_weight(_matrix(weight, transposed=is_head), *_format(scheme, is_head))
        packed[weight.name] = _add_weight(graph, weight.name, quantized)
        _replace_product(graph, node, packed[weight.name], quantized)
        if weight in embeddings:
            _replace_gather(graph, embeddings[weight], packed[weight.name], quantized)
        if progress:
            progress(done + 1, len(products))
    for name in bits:
        if not graph.initializers[name].uses():
            graph.initializers.pop(name)
    _save(model, target)
    return bits


def _embedding_gathers(graph: ir.Graph) -> dict[ir.Value, ir.Node]:
    return {
        node.inputs[0]: node
        for node in graph
        if node.op_type == "Gather"
        and node.inputs[0] is not None
        and node.inputs[0].is_initializer()
    }


def _matrix(weight: ir.Value, *, transposed: bool) -> NDArray[np.float32]:
    """Return the weight as `[in, out]`; the head's lies as `[out, in]`."""
    assert weight.const_value is not None
    array: NDArray[np.float32] = weight.const_value.numpy()
    return array.T if transposed else array


def _format(scheme: Scheme, is_head: bool) -> tuple[int, int]:
    return (scheme.embedding_bits if is_head else scheme.layer_bits), scheme.block_size


def _add_weight(
    graph: ir.Graph, name: str, quantized: BlockwiseWeight
) -> tuple[ir.Value, ir.Value]:
    arrays = ((f"{name}.packed", quantized.packed), (f"{name}.scales", quantized.scales))
    packed, scales = (_initializer(graph, key, array) for key, array in arrays)
    return packed, scales


def _initializer(graph: ir.Graph, name: str, array: NDArray[np.generic]) -> ir.Value:
    tensor = ir.tensor(array, name=name)
    kind = ir.TensorType(tensor.dtype)
    value = ir.Value(name=name, shape=ir.Shape(array.shape), type=kind, const_value=tensor)
    graph.initializers.add(value)
    return value


def _replace_product(
    graph: ir.Graph, node: ir.Node, weight: tuple[ir.Value, ir.Value], quantized: BlockwiseWeight
) -> None:
    """Replace a product, and the bias addition after it if there is one, by MatMulNBits."""
    packed, scales = weight
    outputs, inputs = quantized.packed.shape[0], _inputs_of(node)
    bias_node = _bias_addition(node)
    arguments: list[ir.Value | None] = [node.inputs[0], packed, scales]
    if bias_node is not None:
        arguments += [None, None, bias_node.inputs[1]]
    product = ir.node(
        "MatMulNBits",
        arguments,
        {
            "K": inputs,
            "N": outputs,
            "bits": quantized.bits,
            "block_size": quantized.block_size,
            "accuracy_level": INT8_ACTIVATIONS,
        },
        domain=DOMAIN,
        version=1,
        name=node.name,
    )
    old = [node] if bias_node is None else [node, bias_node]
    last = old[-1]
    product.outputs[0].name = last.outputs[0].name
    product.outputs[0].shape, product.outputs[0].type = last.outputs[0].shape, last.outputs[0].type
    ir.convenience.replace_nodes_and_values(
        graph, node, old, [product], [last.outputs[0]], [product.outputs[0]]
    )


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
    graph: ir.Graph, node: ir.Node, weight: tuple[ir.Value, ir.Value], quantized: BlockwiseWeight
) -> None:
    """Look the embedding up in the head's packed bytes.

    GatherBlockQuantized wants them as `[vocab, width * bits / 8]`: the initializer made here gets
    the head's place in the weights file in `_save`.
    """
    packed, scales = weight
    assert packed.name is not None
    flat = _initializer(
        graph,
        packed.name.removesuffix(".packed") + ".rows",
        quantized.packed.reshape(quantized.packed.shape[0], -1),
    )
    lookup = ir.node(
        "GatherBlockQuantized",
        [flat, node.inputs[1], scales],
        {
            "bits": quantized.bits,
            "block_size": quantized.block_size,
            "gather_axis": 0,
            "quantize_axis": 1,
        },
        domain=DOMAIN,
        version=1,
        name=node.name,
    )
    lookup.outputs[0].name = node.outputs[0].name
    ir.convenience.replace_nodes_and_values(
        graph, node, [node], [lookup], node.outputs, lookup.outputs
    )


def _save(model: ir.Model, target: Path) -> None:
    """Save with the weights beside, each run of bytes once: `.rows` take the place of `.packed`."""
    initializers = model.graph.initializers
    aliases = {name: initializers.pop(name) for name in [*initializers] if name.endswith(".rows")}
    ir.external_data.unload_from_model(
        model, target.parent, f"{target.name}_data", size_threshold_bytes=INLINE_BYTES
    )
    for name, value in aliases.items():
        stored = initializers[name.removesuffix(".rows") + ".packed"].const_value
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
    ir.save(model, target)
