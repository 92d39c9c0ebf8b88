"""The few that matter among a vocabulary of scores, found without sorting all of it."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

_GROUP = 64  # scores of which only the largest is looked at first
_BLOCK = 256  # weights that are summed at once


def largest(scores: NDArray[np.float32], count: int) -> NDArray[np.int64]:
    """Return the indices, ascending, of the `count` largest and of any that tie with the last.

    The `count`-th largest of the groups' largest bounds the `count`-th largest of all from below,
    and few scores are above that.
    """
    groups = len(scores) // _GROUP
    if count > groups:
        return np.flatnonzero(scores >= np.partition(scores, -count)[-count])
    best = scores[: groups * _GROUP].reshape(_GROUP, groups).max(axis=0)
    candidates = np.flatnonzero(scores >= np.partition(best, -count)[-count])
    among = scores[candidates]
    found: NDArray[np.int64] = candidates[among >= np.partition(among, -count)[-count]]
    return found


def top(scores: NDArray[np.float32], count: int) -> NDArray[np.int64]:
    """Return the indices of the `count` largest, largest first; of equal ones the first first."""
    candidates = largest(scores, count)
    order = np.argsort(-scores[candidates], kind="stable")[:count]
    best: NDArray[np.int64] = candidates[order]
    return best


def leading(weights: NDArray[np.float32], share: float) -> int:
    """Return how many of the first weights together make at most `share` of the sum of all.

    For a share below 1 that many come before a weight above 0. Blocks are summed first: a running
    sum of a whole vocabulary takes ten times as long.
    """
    start, before = 0, 0.0
    if len(weights) <= _BLOCK:
        running = np.cumsum(weights, dtype=np.float64)
        limit = share * running[-1]
    else:
        sums = np.cumsum(np.add.reduceat(weights, np.arange(0, len(weights), _BLOCK), dtype=float))
        limit = share * sums[-1]
        block = min(int(sums.searchsorted(limit, side="right")), len(sums) - 1)
        start, before = block * _BLOCK, sums[block - 1] if block else 0.0
        running = np.cumsum(weights[start : start + _BLOCK], dtype=np.float64)
    limit -= before
    if share < 1:  # rounding must not carry it past the block
        limit = min(limit, math.nextafter(running[-1], 0))
    return start + int(running.searchsorted(limit, side="right"))
