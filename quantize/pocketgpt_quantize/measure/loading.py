"""Opening a graph to measure it, in as little memory as that takes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from pocketgpt.engine.graph import KERNELS_OWN, Graph, open_graph
from pocketgpt.engine.heap import trim_heap
from pocketgpt.folder.config import ModelConfig


def open_sparingly(
    path: Path,
    config: ModelConfig,
    bits: Mapping[str, int],
    weights_folder: Path | None = None,
) -> Graph:
    """Open a graph as it will run; float weights with no second copy laid out for speed.

    Args:
        path: the .onnx file, wherever it lies.
        config: the model's shape.
        bits: of its weights, by name.
        weights_folder: where those lie, if not beside it.
    """
    trim_heap()
    sparing = min(bits.values(), default=32) > KERNELS_OWN
    return open_graph(path, config, sparing=sparing, weights_folder=weights_folder, tuned=True)
