"""The few that matter among a vocabulary of scores, found without sorting all of it."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

_GROUP = 64  # scores of which only the largest is looked at first
_BLOCK = 256  # weights that are summed at once
_FEW = 2048  # keys that are sorted outright
_BINS = np.float32(1024)  # of the histogram that says which of more keys are sorted
_LARGEST = np.finfo(np.float32).max


def largest(scores: NDArray[np.float32], count: int) -> NDArray[np.int64]:
    """Return the indices, ascending, of the `count` largest and of any that tie with the last."""
    if len(scores) <= _FEW:
        return np.flatnonzero(scores >= np.partition(scores, -count)[-count])
    candidates = nearly_largest(scores, count)
    among = scores[candidates]
    best: NDArray[np.int64] = candidates[among >= np.partition(among, -count)[-count]]
    return best


def nearly_largest(scores: NDArray[np.float32], count: int) -> NDArray[np.int64]:
    """Return ascending indices, among them those of the `count` largest and of equal ones.

    Numbers that differ in their last digits alone are equal here, as a division may make them so.
    The `count`-th largest of the groups' largest bounds the `count`-th largest of all from below,
    and few scores are above that.
    """
    groups = len(scores) // _GROUP
    if count > groups:
        bound = np.partition(scores, -count)[-count]
    else:
        best = scores[: groups * _GROUP].reshape(_GROUP, groups).max(axis=0)
        bound = np.partition(best, -count)[-count]
    if np.isfinite(bound):
        bound -= abs(bound) * np.float32(2**-21)
    return np.flatnonzero(scores >= bound)


def top(scores: NDArray[np.float32], count: int) -> NDArray[np.int64]:
    """Return the indices of the `count` largest, largest first; of equal ones the first first."""
    candidates = largest(scores, count)
    order = np.argsort(-scores[candidates], kind="stable")[:count]
    best: NDArray[np.int64] = candidates[order]
    return best


def reach(
    keys: NDArray[np.float32], weights: NDArray[np.float32], target: float, width: float
) -> np.float32:
    """Return the key with which the weights, taken by ascending key, add up to `target`.

    The largest key, where all of them do not; an infinite one counts as no key. Those no further
    than `width` from the smallest are looked at first, and mostly enough. Of many, a histogram says
    between which two the sum reaches the target, and only those are sorted.
    """
    first = keys.min()
    for reached in (np.float32(width), _LARGEST):
        near = np.flatnonzero(keys <= first + reached)
        if weights[near].sum(dtype=np.float64) >= target:
            break
    keys, weights, before = keys[near], weights[near], 0.0
    if len(keys) > _FEW and (span := keys.max() - first) > 0:
        bins = ((keys - first) * (_BINS / span)).astype(np.intp)
        masses = np.cumsum(np.bincount(bins, weights))
        place = min(int(masses.searchsorted(target)), len(masses) - 1)
        window = np.flatnonzero(bins == place)
        before = float(masses[place - 1]) if place else 0.0
        keys, weights = keys[window], weights[window]
    order = np.argsort(keys, kind="stable")
    sums = before + np.cumsum(weights[order], dtype=np.float64)
    place = min(int(sums.searchsorted(target)), len(keys) - 1)
    key: np.float32 = keys[order[place]]
    return key


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
