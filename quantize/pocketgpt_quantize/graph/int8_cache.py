"""A variant's graph once more, over the same weights, with keys and values stored in 8 bits.

GroupQueryAttention of ONNX Runtime 1.32 reads and writes such a cache in place, each channel of
each head with a scale of its own. It reads every number anew for every token, which is faster than
float32 for a token or a few and slower for many. So a branch decides by how many tokens come: few
go that way, and for more the cache is read into float32, once. Both attend to the numbers that are
stored, of the new tokens too. The second leaves `present` with the new tokens alone, for the caller
to put in place: no operator writes into a part of a buffer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx_ir as ir

from pocketgpt import QuantizationError
from pocketgpt.engine.contract import INPUT_IDS, MOST_IN_PLACE, POSITION_IDS, SIDES
from pocketgpt.folder.config import ModelConfig

from ..rounding.format import Floats
from .fold import ATTENTION
from .rewrite import DOMAIN, add_initializer, array_of

BITS, LARGEST = 8, 127
SCALES = 12  # the place of the keys' scale among GroupQueryAttention's inputs


@dataclass(frozen=True)
class CacheScales:
    """What a stored number is multiplied by: `keys` and `values` are `[n_layer, n_head, head_dim]`.

    None is 0.
    """

    keys: Floats
    values: Floats


def write_int8_cache_graph(source: Path, scales: CacheScales, target: Path) -> None:
    """Write the fused graph `source` with an 8-bit cache; its weights stay in place.

    Raises:
        QuantizationError: it has not one attention for every layer, or a cache of another type.
    """
    model = ir.load(source)
    graph = model.graph
    attentions = [node for node in graph if node.op_type == ATTENTION]
    if len(attentions) != len(scales.keys):
        raise QuantizationError(f"{source} has {len(attentions)} attentions; export it again")
    common = _Common.of(graph, scales.keys.shape[1])
    for layer, node in enumerate(attentions):
        pair = (scales.keys[layer], scales.values[layer])
        _branch(
            graph,
            node,
            common,
            [
                add_initializer(graph, f"{node.name}.{side}_scale", one.reshape(-1))
                for side, one in zip(SIDES, pair, strict=True)
            ],
        )
    ir.save(model, target)


def read_scales(path: Path, config: ModelConfig) -> CacheScales:
    """Return the scales of a graph that `write_int8_cache_graph` wrote."""
    constants = ir.load(path).graph.initializers
    shape = (config.n_layer, config.n_head, config.head_dim)
    keys, values = (
        np.stack([array_of(v) for n, v in constants.items() if n.endswith(f".{side}_scale")])
        for side in SIDES
    )
    return CacheScales(keys.reshape(shape), values.reshape(shape))


@dataclass(frozen=True)
class _Common:
    """What all layers share: whether few tokens come, how many are there, constants."""

    few: ir.Value
    past: ir.Value  # [1], of the first row: the only one where any are there
    begin: ir.Value
    axis: ir.Value
    one: ir.Value
    middle: ir.Value
    by_head: ir.Value  # a shape

    @classmethod
    def of(cls, graph: ir.Graph, heads: int) -> _Common:
        given = {value.name: value for value in graph.inputs}

        def whole(name: str, *numbers: int) -> ir.Value:
            return add_initializer(graph, f"cache.{name}", np.array(numbers, np.int64))

        begin, most = whole("begin", 0), whole("most", MOST_IN_PLACE)
        tokens = ir.node("Shape", [given[INPUT_IDS]], {"start": 1, "end": 2})
        few = ir.node("LessOrEqual", [tokens.outputs[0], most])
        flat = ir.node("Reshape", [given[POSITION_IDS], whole("flat", -1)])
        past = ir.node("Gather", [flat.outputs[0], begin])
        for node, name in ((few, "few"), (past, "past")):
            node.outputs[0].name = f"cache.{name}"
        graph.insert_before(graph[0], [tokens, few, flat, past])
        one = add_initializer(graph, "cache.one", np.array(1, np.float32))
        middle = add_initializer(graph, "cache.middle", np.array(0, np.int8))
        by_head = whole("by_head", 0, 0, heads, -1)
        return cls(few.outputs[0], past.outputs[0], begin, whole("axis", 2), one, middle, by_head)


def _branch(graph: ir.Graph, node: ir.Node, common: _Common, scales: Sequence[ir.Value]) -> None:
    """Put both ways to attend in the place of one."""
    for value in (*node.inputs[3:5], *node.outputs[1:3]):
        assert value is not None
        value.type = ir.TensorType(ir.DataType.INT8)
    name = node.name or ""
    ways = {
        "then_branch": _in_place(node, scales, f"{name}.few"),
        "else_branch": _apart(node, common, scales, f"{name}.many"),
    }
    branch = ir.node(
        "If",
        [common.few],
        {key: ir.AttrGraph(key, way) for key, way in ways.items()},
        num_outputs=3,
        name=f"{name}.branch",
    )
    for new, old in zip(branch.outputs, node.outputs, strict=True):
        new.name, new.shape, new.type = old.name, old.shape, old.type
    ir.convenience.replace_nodes_and_values(
        graph, node, [node], [branch], node.outputs, branch.outputs
    )


def _in_place(node: ir.Node, scales: Sequence[ir.Value], name: str) -> ir.Graph:
    """Return the attention over 8-bit keys and values, which appends to them in place."""
    given = [*node.inputs, *[None] * (SCALES - len(node.inputs))]
    kind = {"k_quant_type": "PER_CHANNEL", "v_quant_type": "PER_CHANNEL"}
    attend = ir.node(
        ATTENTION,
        [*given, *scales],
        {**node.attributes, **kind, "kv_cache_bit_width": BITS},
        domain=DOMAIN,
        num_outputs=3,
        name=name,
    )
    return _way([attend], attend.outputs, name)


def _apart(node: ir.Node, common: _Common, scales: Sequence[ir.Value], name: str) -> ir.Graph:
    """Return the attention over float32, of the whole numbers that are stored.

    A query's channels are multiplied by the keys' scales instead, and the output's by the values':
    only new tokens take arithmetic, and the others a conversion.
    """
    nodes: list[ir.Node] = []

    def add(kind: str, *inputs: ir.Value | None, **attributes: int | list[int]) -> ir.Value:
        nodes.append(ir.node(kind, inputs, attributes, name=f"{name}.{len(nodes)}"))
        return nodes[-1].outputs[0]

    split = ir.node("Split", [node.inputs[0]], {"axis": 2, "num_outputs": 3}, num_outputs=3)
    nodes.append(split)
    query, *new = split.outputs
    given, past, kept = [add("Mul", query, scales[0])], [], []
    for side, stored, scale in zip(new, node.inputs[3:5], scales, strict=True):
        whole = add("QuantizeLinear", add("Div", side, scale), common.one, common.middle)
        given.append(add("Cast", whole, to=ir.DataType.FLOAT))
        kept.append(add("Transpose", add("Reshape", whole, common.by_head), perm=[0, 2, 1, 3]))
        filled = add("Slice", stored, common.begin, common.past, common.axis)
        past.append(add("Cast", filled, to=ir.DataType.FLOAT))
    attend = ir.node(
        ATTENTION,
        [*given, *past, *node.inputs[5:]],
        node.attributes,
        domain=DOMAIN,
        num_outputs=3,
        name=name,
    )
    nodes.append(attend)
    return _way(nodes, [add("Mul", attend.outputs[0], scales[1]), *kept], name)


def _way(nodes: list[ir.Node], outputs: Sequence[ir.Value], name: str) -> ir.Graph:
    kinds = (ir.DataType.FLOAT, ir.DataType.INT8, ir.DataType.INT8)
    for output, kind in zip(outputs, kinds, strict=True):
        output.type = ir.TensorType(kind)
    values = [value for node in nodes for value in node.outputs]
    for number, value in enumerate(values):  # names are the whole graph's
        value.name = f"{name}.value.{number}"
    return ir.Graph([], outputs, nodes=nodes, name=name)
