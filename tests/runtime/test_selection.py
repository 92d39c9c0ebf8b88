"""Finding the largest scores and the leading weights: against sorting and summing all of them."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from pocketgpt.generation.topk import largest, leading, reach, top

SIZES = (1, 2, 63, 64, 65, 127, 300, 5000, 50257)


def scores_of(size: int, kind: str) -> NDArray[np.float32]:
    scores = np.random.default_rng(size).normal(0, 3, size).astype(np.float32)
    if kind == "tied":
        return np.round(scores)
    if kind == "forbidden":
        scores[np.random.default_rng(1).random(size) < 0.9] = -np.inf
    return scores


@pytest.mark.parametrize("kind", ["random", "tied", "forbidden"])
@pytest.mark.parametrize("size", SIZES)
def test_largest_and_top_equal_sorting(size: int, kind: str) -> None:
    scores = scores_of(size, kind)
    order = np.argsort(-scores, kind="stable")
    for count in {1, min(2, size), min(50, size), max(1, size // 64), max(1, size // 2), size}:
        threshold = scores[order[count - 1]]
        assert largest(scores, count).tolist() == np.flatnonzero(scores >= threshold).tolist()
        assert top(scores, count).tolist() == order[:count].tolist()


@pytest.mark.parametrize("size", SIZES)
def test_leading_equals_a_running_sum(size: int) -> None:
    """Whole numbers, so that every sum is exact."""
    random = np.random.default_rng(size)
    weights = random.integers(0, 4, size).astype(np.float32)
    weights[random.integers(size)] = 1
    running, total = np.cumsum(weights, dtype=np.float64), float(weights.sum())
    for share in (0.0, 0.25, 0.5, 0.75, 1 - 2**-53, *random.random(20)):
        expected = int((running <= share * total).sum())
        assert leading(weights, float(share)) == expected
        assert weights[expected] > 0
    assert leading(weights, 1.0) == size


def test_leading_never_stops_at_a_weight_of_0() -> None:
    """Sums of blocks and running sums round differently."""
    random = np.random.default_rng(0)
    for _ in range(200):
        weights = random.random(1000).astype(np.float32) ** 9
        weights[random.random(1000) < 0.8] = 0
        ends = np.cumsum(weights, dtype=np.float64) / weights.sum(dtype=np.float64)
        for share in random.choice(ends[ends < 1], 20):
            assert weights[leading(weights, float(share))] > 0


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("width", [0.0, 1.0, 40.0])
def test_reach_equals_sorting_all_keys(size: int, width: float) -> None:
    """Weights are whole numbers, so that every sum is exact."""
    random = np.random.default_rng(size)
    keys = np.abs(random.normal(0, width, size)).astype(np.float32).round(3)
    weights = random.integers(1, 9, size).astype(np.float32)
    order = np.argsort(keys, kind="stable")
    sums = np.cumsum(weights[order], dtype=np.float64)
    for target in (0.5, 1.0, *(np.round(random.random(20) * sums[-1])), sums[-1], sums[-1] + 1):
        place = min(int(sums.searchsorted(target)), size - 1)
        for near in (0.5, 10.0):
            assert reach(keys, weights, float(target), near) == keys[order[place]]
