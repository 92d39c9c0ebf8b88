"""Loading a variant to measure it, in as little memory as that takes."""

from __future__ import annotations

from pathlib import Path

import pocketgpt
from pocketgpt import Model
from pocketgpt.engine.graph import open_graph
from pocketgpt.folder.config import read_config
from pocketgpt.folder.manifest import read_manifest, variant_path
from pocketgpt.text.tokenizer import Tokenizer

from ..observe.heap import trim_heap

KERNELS_OWN = 8  # bits at most: such weights are laid out anew, or other kernels compute


def load_sparingly(folder: Path, name: str) -> Model:
    """Load a variant; float weights with no second copy laid out for speed."""
    trim_heap()
    manifest = read_manifest(folder)
    if min(manifest.variant(name).bits.values()) <= KERNELS_OWN:
        return pocketgpt.load(folder, name)
    return Model(
        open_graph(folder / variant_path(name), read_config(folder), sparing=True),
        Tokenizer(folder / "tokenizer.json"),
        manifest,
        name,
        {},
    )
