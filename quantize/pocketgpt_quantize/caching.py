"""Graphs with an 8-bit cache: made for every variant that can have one, measured as it is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pocketgpt.engine.graph import Graph
from pocketgpt.folder.config import ModelConfig
from pocketgpt.folder.file_record import FileRecord
from pocketgpt.folder.manifest import Int8Cache, Variant, int8_cache_path, variant_path
from pocketgpt.folder.opening import OpenFolder
from pocketgpt.text.tokenizer import Tokenizer

from .graph.int8_cache import CacheScales, read_scales, write_int8_cache_graph
from .job import FP32
from .measure.loading import open_sparingly
from .observe.cache_ranges import cache_scales
from .texts import Text

MAX_LOSS = 0.002  # that the cache may add to the variant's own


@dataclass(frozen=True)
class CachedGraph:
    """A variant's graph with an 8-bit cache, as it lies in staging.

    `record` is the file's; its weights are in `weights_folder`, of the variant's `bits`.
    """

    variant: str
    record: FileRecord
    staging: Path
    weights_folder: Path
    config: ModelConfig
    bits: Mapping[str, int]

    @property
    def title(self) -> str:
        """What it is called while it is measured."""
        return f"{self.variant} with an 8-bit cache"

    def open(self) -> Graph:
        """Open it."""
        path = self.staging / self.record.path
        return open_sparingly(path, self.config, self.bits, self.weights_folder)


def add_int8_caches(
    opened: OpenFolder, staging: Path, made: Mapping[str, Variant], calibration: Text
) -> dict[str, CachedGraph]:
    """Write the graphs with an 8-bit cache of fp32 and of what was made; return them by variant.

    None where keys and values are no float32, or a model predicts no next token.

    Args:
        opened: the folder.
        staging: where variants are made.
        made: the variants.
        calibration: the text that scales are found on.
    """
    token_ids = Tokenizer(opened.tokenizer, opened.config.vocab_size).encode(calibration.content)
    if opened.manifest.graph != "fused" or opened.config.labels is not None or not token_ids:
        return {}
    variants = {FP32: (opened.folder, opened.record)}
    variants |= {name: (staging, variant) for name, variant in made.items()}
    known = _known_scales(opened)
    found = {}
    for name, (folder, variant) in variants.items():
        source, target = folder / variant_path(name), staging / int8_cache_path(name)
        graph = open_sparingly(source, opened.config, variant.bits)
        if graph.contract.cache_dtype != np.float32:
            continue
        scales = known.get(variant.basis) or cache_scales(graph, token_ids)
        if variant.basis is not None:
            known[variant.basis] = scales
        del graph  # one is open at once
        write_int8_cache_graph(source, scales, target)
        record = FileRecord.of(staging, int8_cache_path(name))
        found[name] = CachedGraph(name, record, staging, source.parent, opened.config, variant.bits)
    return found


def _known_scales(opened: OpenFolder) -> dict[str | None, CacheScales]:
    """Return the scales of the folder's graphs, by basis: those of one can share a cache."""
    return {
        variant.basis: read_scales(opened.folder / variant.int8_cache.graph.path, opened.config)
        for variant in opened.manifest.variants.values()
        if variant.int8_cache is not None and variant.basis is not None
    }


def kept_cache(variant: Variant, cache: Int8Cache) -> Int8Cache | None:
    """Return a measured cache, or None where it adds more than 0.2% to a variant's perplexity."""
    added = cache.quality["perplexity"] / variant.quality["perplexity"] - 1
    return cache if added <= MAX_LOSS else None
