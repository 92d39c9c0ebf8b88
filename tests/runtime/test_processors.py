"""The processors against transformers' classes of the same names, and against numbers by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from transformers import TemperatureLogitsWarper, TopKLogitsWarper, TopPLogitsWarper

from pocketgpt import GenerationOptions
from pocketgpt.generation.pipeline import Pipeline
from pocketgpt.generation.processors import log_softmax, softmax

Logits = NDArray[np.float32]
NO_IDS = torch.zeros((1, 1), dtype=torch.long)
INFINITY = float("inf")


def some_logits(kind: str) -> Logits:
    """`[4, 300]`: random, or rounded so that many tie, or partly forbidden already."""
    logits = np.random.default_rng(3).normal(0, 3, (4, 300)).astype(np.float32)
    if kind == "tied":
        return np.round(logits)
    if kind == "forbidden":
        logits[:, ::3] = -np.inf
    return logits


def warped(logits: Logits, **options: float) -> Logits:
    """What is left to be drawn of each row, as scores."""
    chosen = GenerationOptions(**{"do_sample": True, "top_k": 0, **options})  # type: ignore[arg-type]
    return np.stack([Pipeline.build(chosen, [0], 9).warp(row) for row in logits])


def apply_temperature(logits: Logits, temperature: float) -> Logits:
    return warped(logits, temperature=temperature)


def keep_top_k(logits: Logits, top_k: int) -> Logits:
    return warped(logits, top_k=top_k)


def keep_top_p(logits: Logits, top_p: float) -> Logits:
    return warped(logits, top_p=top_p)


def assert_same(found: Logits, expected: torch.Tensor) -> None:
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected.numpy(), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("kind", ["random", "tied", "forbidden"])
@pytest.mark.parametrize("temperature", [0.01, 0.5, 0.7, 1.0, 1.3, 50.0])
def test_temperature(kind: str, temperature: float) -> None:
    logits = some_logits(kind)
    expected = TemperatureLogitsWarper(temperature)(NO_IDS, torch.tensor(logits))
    assert_same(apply_temperature(logits, temperature), expected)


@pytest.mark.parametrize("kind", ["random", "tied", "forbidden"])
@pytest.mark.parametrize("top_k", [1, 2, 5, 50, 299, 300, 1000])
def test_top_k(kind: str, top_k: int) -> None:
    logits = some_logits(kind)
    expected = TopKLogitsWarper(top_k)(NO_IDS, torch.tensor(logits))
    assert_same(keep_top_k(logits, top_k), expected)


@pytest.mark.parametrize("kind", ["random", "forbidden"])
@pytest.mark.parametrize("top_p", [1e-6, 0.1, 0.5, 0.9, 0.95, 0.999])
def test_top_p(kind: str, top_p: float) -> None:
    logits = some_logits(kind)
    expected = TopPLogitsWarper(top_p)(NO_IDS, torch.tensor(logits))
    assert_same(keep_top_p(logits, top_p), expected)


@pytest.mark.parametrize("top_p", [0.1, 0.5, 0.9, 0.95, 0.999])
def test_top_p_keeps_as_many_of_tied_tokens(top_p: float) -> None:
    """Which of several equal ones stay is free in transformers: its sort is not stable."""
    logits = some_logits("tied")
    expected = TopPLogitsWarper(top_p)(NO_IDS, torch.tensor(logits))
    assert_same(np.sort(keep_top_p(logits, top_p)), expected.sort().values)


@pytest.mark.parametrize("kind", ["random", "tied", "forbidden"])
def test_softmax(kind: str) -> None:
    logits = some_logits(kind)
    assert_same(softmax(logits), torch.softmax(torch.tensor(logits), -1))
    assert_same(log_softmax(logits), torch.log_softmax(torch.tensor(logits), -1))


def test_softmax_of_huge_logits() -> None:
    logits = np.array([[1e30, 1e30, -1e30]], np.float32)
    assert softmax(logits).tolist() == [[0.5, 0.5, 0.0]]


# Probabilities 1/2, 1/4, 1/8, 1/16, 1/16.
HALVES = np.log(np.array([[8, 4, 2, 1, 1]], np.float32))


def test_softmax_by_hand() -> None:
    np.testing.assert_allclose(softmax(HALVES), [[0.5, 0.25, 0.125, 0.0625, 0.0625]], rtol=1e-6)
    expected = [[-math.log(2), -math.log(4), -math.log(8), -math.log(16), -math.log(16)]]
    np.testing.assert_allclose(log_softmax(HALVES), expected, rtol=1e-6)


def test_temperature_by_hand() -> None:
    """At temperature 1/2 probabilities go with their squares: 64, 16, 4, 1, 1 of 86."""
    found = softmax(apply_temperature(HALVES, 0.5))
    np.testing.assert_allclose(found, [[64 / 86, 16 / 86, 4 / 86, 1 / 86, 1 / 86]], rtol=1e-6)


@pytest.mark.parametrize(("top_k", "kept"), [(1, 1), (2, 2), (3, 3), (4, 5), (5, 5)])
def test_top_k_by_hand(top_k: int, kept: int) -> None:
    """The fourth and fifth tie, so both stay where one does."""
    expected = np.where(np.arange(5) < kept, HALVES, -INFINITY)
    np.testing.assert_array_equal(keep_top_k(HALVES, top_k), expected)


@pytest.mark.parametrize(
    ("top_p", "kept"),
    [(0.01, 1), (0.49, 1), (0.51, 2), (0.74, 2), (0.76, 3), (0.87, 3), (0.89, 4), (0.99, 5)],
)
def test_top_p_by_hand(top_p: float, kept: int) -> None:
    assert int(np.isfinite(keep_top_p(HALVES, top_p)).sum()) == kept
    sizes = np.sort(keep_top_p(HALVES, top_p)[0])[::-1]
    np.testing.assert_array_equal(sizes[:kept], HALVES[0, :kept])


def test_logits_given_stay_as_they_were() -> None:
    logits = some_logits("random")
    before = logits.copy()
    keep_top_k(logits, 3)
    keep_top_p(logits, 0.5)
    apply_temperature(logits, 0.5)
    np.testing.assert_array_equal(logits, before)
