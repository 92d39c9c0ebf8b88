"""How far a variant's logits move with what is computed together with a token.

fp32's greedy tokens are the same in one pass, in chunks, token by token and in a batch. A quantized
variant's may differ, and the manifest says by how much. Where it comes from: ONNX Runtime's
kernels add up in another order for one row than for several (MatMulNBits and GroupQueryAttention
move by 2e-7 of their scale), which is nothing, until it tips an activation over the middle between
two 8-bit numbers in a product behind. That one moves by 1/127 of its block's largest, and tips
others: behind some layers a hidden state has moved by 1e-3 of its scale. No order of operators
avoids it; products with float activations would, at 50 times the time a token. Other rows of a
batch have no part in it: rows never see each other.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from pocketgpt.engine.graph import Graph
from pocketgpt.generation.processors import Logits

WINDOWS = 8
WINDOW_TOKENS = 48
CHUNK = 11  # tokens; no divisor of a window, so that the last chunk is a short one
MARGIN = 2  # over the largest difference found: other texts may bring larger ones

Progress = Callable[[int, int], None]


def measure_tolerance(
    graph: Graph, token_ids: Sequence[int], progress: Progress | None = None
) -> float:
    """Return what a variant's logits may differ by, between two ways to compute them.

    It is twice the largest difference of any logit between one pass and chunks, single tokens, or
    a batch of single tokens, over some windows of a text. So it also covers the margin between the
    two likeliest tokens where one way's greedy token is not the other's.

    Args:
        graph: the variant's, open.
        token_ids: a text; windows are cut from it at even distances.
        progress: called with (windows done, windows in all).
    """
    windows = cut(token_ids, min(WINDOW_TOKENS, graph.config.n_positions))
    expected, largest = [], 0.0
    for done, window in enumerate(windows):
        whole = graph.decoder().score(window).copy()
        largest = max(largest, _chunked_apart(graph, window, whole))
        largest = max(largest, _stepped_apart(graph, [window], [whole]))
        expected.append(whole)
        if progress:
            progress(done + 1, len(windows))
    return MARGIN * max(largest, _stepped_apart(graph, windows, expected))


def cut(token_ids: Sequence[int], length: int) -> list[Sequence[int]]:
    """Return up to 8 windows of `length` tokens (of a shorter text, all of it)."""
    length = min(length, len(token_ids))
    count = max(1, min(WINDOWS, len(token_ids) // length))
    starts = [index * (len(token_ids) - length) // max(1, count - 1) for index in range(count)]
    return [token_ids[start : start + length] for start in starts]


def _chunked_apart(graph: Graph, window: Sequence[int], expected: Logits) -> float:
    """Return the largest difference from `[tokens, vocab_size]`, a few tokens at a time."""
    decoder = graph.decoder()
    parts = (slice(start, start + CHUNK) for start in range(0, len(window), CHUNK))
    return max(float(np.abs(decoder.score(window[p]) - expected[p]).max()) for p in parts)


def _stepped_apart(
    graph: Graph, windows: Sequence[Sequence[int]], expected: Sequence[Logits]
) -> float:
    """Return the same for windows of one length, a token of each at a time."""
    decoder = graph.decoder(len(windows))
    largest = 0.0
    for tokens, logits in zip(zip(*windows, strict=True), zip(*expected, strict=True), strict=True):
        largest = max(largest, float(np.abs(decoder.step(tokens) - np.stack(logits)).max()))
    return largest
