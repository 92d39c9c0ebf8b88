"""How large keys and values become on real text: what an 8-bit cache is scaled by."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pocketgpt.engine.graph import Graph

from ..graph.int8_cache import LARGEST, CacheScales

WINDOWS = 8  # of the whole context: the largest number of a channel is soon seen
MARGIN = 1.1  # over the largest seen; what is larger still is stored as that


def cache_scales(graph: Graph, token_ids: Sequence[int]) -> CacheScales:
    """Return scales that hold what a float32 cache holds on windows of a text.

    Args:
        graph: open, with a float32 cache.
        token_ids: a text, of which up to 8 windows of the context are looked at, evenly spaced.
    """
    length = min(graph.config.n_positions, len(token_ids))
    count = min(WINDOWS, max(1, len(token_ids) // length))
    starts = np.linspace(0, len(token_ids) - length, count).astype(int)
    largest = [np.float32(0), np.float32(0)]
    for start in starts:
        decoder = graph.decoder()
        decoder.reserve(length)
        decoder.prefill(token_ids[start : start + length])
        for side, filled in enumerate(decoder.read()):
            largest[side] = np.maximum(largest[side], np.abs(filled).max(axis=2))
    keys, values = (np.where(most > 0, most * MARGIN / LARGEST, 1) for most in largest)
    return CacheScales(keys.astype(np.float32), values.astype(np.float32))
