"""The least and largest number of every value of a portable graph on a text."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from pocketgpt.engine.contract import past_names, present_names, text_feeds
from pocketgpt.folder.config import ModelConfig

from ..graph.rewrite import add_initializer
from .calibration import CHUNK, check_length, open_sparingly

MASKED = -1e30  # what is below hides a token from attention

Range = tuple[float, float]
"""The least and the largest number."""


def record_ranges(
    source: Path,
    config: ModelConfig,
    token_ids: Sequence[int],
    names: Sequence[str],
    progress: Callable[[int, int], None],
) -> dict[str, Range]:
    """Return the ranges of values, with 0 and without what hides tokens from attention.

    Args:
        source: the fp32 .onnx file.
        config: the model's shape.
        token_ids: the calibration text.
        names: the values'; floats.
        progress: called with (tokens done, tokens in all).

    Raises:
        QuantizationError: the text has fewer than 128 tokens.
    """
    check_length(token_ids)
    session = open_sparingly(_with_extremes(ir.load(source), names), source.parent)
    caches = past_names(config.n_layer)
    presents = present_names(config.n_layer)
    outputs = [value.name for value in session.get_outputs()[1:]]  # all but the logits
    empty = np.zeros((1, config.n_head, 0, config.head_dim), np.float32)
    lowest = highest = np.zeros(len(names), np.float32)
    for start in range(0, len(token_ids), config.n_positions):
        cache: dict[str, NDArray[np.float32]] = dict.fromkeys(caches, empty)
        window = token_ids[start : start + config.n_positions]
        for begin in range(0, len(window), CHUNK):
            chunk = window[begin : begin + CHUNK]
            found = dict(
                zip(outputs, session.run(outputs, text_feeds(chunk, begin) | cache), strict=True)
            )
            cache = {p: found.pop(name) for p, name in zip(caches, presents, strict=True)}
            lows, highs = np.array([*found.values()]).reshape(2, -1)
            lowest, highest = np.minimum(lowest, lows), np.maximum(highest, highs)
            progress(start + begin + len(chunk), len(token_ids))
    pairs = zip(lowest.tolist(), highest.tolist(), strict=True)
    return dict(zip(names, pairs, strict=True))


def _with_extremes(model: ir.Model, names: Sequence[str]) -> ir.Model:
    """Add every value's least and then every value's largest number to a graph's outputs."""
    graph = model.graph
    floor = add_initializer(graph, "ranges.floor", np.array(MASKED, np.float32))
    zero = add_initializer(graph, "ranges.zero", np.array(0, np.float32))
    values = {value.name: value for node in graph for value in node.outputs}
    shown = []
    for name in names:
        above = ir.node("Greater", [values[name], floor])
        number = ir.node("Where", [above.outputs[0], values[name], zero])
        graph.extend([above, number])
        shown.append(number.outputs[0])
    for reduction in ("ReduceMin", "ReduceMax"):
        for value in shown:
            node = ir.node(reduction, [value], {"keepdims": 0})
            node.outputs[0].type = ir.TensorType(ir.DataType.FLOAT)
            node.outputs[0].shape = ir.Shape([])
            graph.append(node)
            graph.outputs.append(node.outputs[0])
    return model
