"""Opening a graph to measure it, in as little memory as that takes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from pocketgpt import Model
from pocketgpt.engine.ort_session import open_session
from pocketgpt.folder.opening import OpenFolder
from pocketgpt.text.tokenizer import Tokenizer

from ..observe.heap import trim_heap

KERNELS_OWN = 8  # bits at most: such weights are laid out anew, or other kernels compute


def open_sparingly(path: Path, opened: OpenFolder, name: str, bits: Mapping[str, int]) -> Model:
    """Open a graph of a folder's model; float weights with no second copy laid out for speed.

    Args:
        path: the .onnx file, wherever it lies.
        opened: the folder, for all but the graph.
        name: what to call the variant.
        bits: of its weights, by name.
    """
    trim_heap()
    return Model(
        session=open_session(path, sparing=min(bits.values(), default=32) > KERNELS_OWN),
        tokenizer=Tokenizer(opened.tokenizer_path),
        config=opened.config,
        manifest=opened.manifest,
        variant=name,
        generation_defaults={},
    )
