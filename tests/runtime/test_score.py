"""Scores against PyTorch's sliding window, and by hand."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

import pocketgpt
from pocketgpt import OptionError, Score
from pocketgpt.measure.score import target_log_probs, windows

if TYPE_CHECKING:
    from transformers import GPT2LMHeadModel


def sliding_window(
    model: GPT2LMHeadModel, ids: list[int], n_positions: int, stride: int
) -> list[float]:
    """Log-probabilities of `ids[1:]`, by the loop of transformers' page on perplexity.

    Where windows do not overlap, one begins with the last token of the one before, or its first
    token would have nothing before it.
    """
    found: list[float] = []
    previous_end = 0
    for begin in range(0, len(ids), stride):
        end = min(begin + n_positions, len(ids))
        window = torch.tensor([ids[max(0, min(begin, previous_end - 1)) : end]])
        with torch.inference_mode():
            log_probs = model(window[:, :-1]).logits[0].log_softmax(-1)
        each = log_probs.gather(1, window[0, 1:, None])[:, 0].tolist()
        wanted = end - previous_end if begin else end - 1
        found += each[len(each) - wanted :]
        previous_end = end
        if end == len(ids):
            break
    return found


@pytest.fixture(scope="module")
def text(tiny_folder: Path) -> str:
    return (tiny_folder / "evaluation.txt").read_text("utf-8")


@pytest.mark.parametrize("stride", [None, 1, 17, 48, 95])
def test_log_probabilities_equal_pytorchs(
    tiny: pocketgpt.Model, tiny_reference: GPT2LMHeadModel, text: str, stride: int | None
) -> None:
    ids = tiny.tokenizer.encode(text)
    assert len(ids) > 2 * 96
    expected = sliding_window(tiny_reference, ids, 96, stride or 48)
    score = tiny.score(text, stride=stride)
    assert len(score.log_probs) == len(ids) - 1
    np.testing.assert_allclose(score.log_probs, expected, rtol=0, atol=2e-4)
    assert score.bytes == len(text.encode("utf-8"))
    assert score.perplexity == pytest.approx(math.exp(-np.mean(expected)), rel=1e-4)
    bits = -sum(expected) / math.log(2) / score.bytes
    assert score.bits_per_byte == pytest.approx(bits, rel=1e-4)


def test_scores_by_hand() -> None:
    """Two tokens of probability 1/2 and 1/8: perplexity 4, and 4 bits for 8 bytes."""
    score = Score(np.log(np.array([0.5, 0.125], np.float32)), 8)
    assert score.perplexity == pytest.approx(4, rel=1e-6)
    assert score.bits_per_byte == pytest.approx(0.5, rel=1e-6)


@pytest.mark.parametrize(
    ("length", "expected"),
    [
        (2, [(0, 1, 2)]),
        (8, [(0, 1, 8)]),
        (9, [(0, 1, 8), (4, 8, 9)]),
        (12, [(0, 1, 8), (4, 8, 12)]),
        (13, [(0, 1, 8), (4, 8, 12), (8, 12, 13)]),
    ],
)
def test_windows_by_hand(length: int, expected: list[tuple[int, int, int]]) -> None:
    made = [
        (begin, first, begin + len(ids), ids) for begin, first, ids in windows(range(length), 8, 4)
    ]
    assert [window[:3] for window in made] == expected
    assert all(ids == [*range(begin, end)] for begin, _, end, ids in made)


@pytest.mark.parametrize("length", [2, 7, 8, 9, 30, 31])
@pytest.mark.parametrize("stride", [1, 3, 7, 8])
def test_windows_score_every_token_but_the_first_once(length: int, stride: int) -> None:
    scored = []
    for begin, first, ids in windows(iter(range(length)), 8, stride):
        assert begin < first
        assert len(ids) <= 9  # a window, and what comes before it where windows do not overlap
        scored += ids[first - begin :]
    assert scored == list(range(1, length))


@pytest.mark.parametrize("text", ["", "Q"])
def test_text_too_short(tiny: pocketgpt.Model, text: str) -> None:
    with pytest.raises(OptionError, match="cannot be scored: nothing precedes the first token"):
        tiny.score(text)


@pytest.mark.parametrize("stride", [0, -1, 97])
def test_stride_outside_the_context(tiny: pocketgpt.Model, stride: int) -> None:
    with pytest.raises(OptionError, match="stride should be between 1 and the context 96"):
        tiny.score("some text", stride=stride)


def test_progress_reaches_the_end(tiny: pocketgpt.Model, text: str) -> None:
    reports: list[tuple[int, int]] = []
    score = tiny.score(text, progress=lambda done, total: reports.append((done, total)))
    total = len(score.log_probs)
    assert reports[-1] == (total, total)
    assert [done for done, _ in reports] == sorted({done for done, _ in reports})


def test_log_probabilities_by_pytorchs_log_softmax() -> None:
    random = np.random.default_rng(3)
    logits = random.normal(0, 30, (37, 501)).astype(np.float32)
    targets = random.integers(0, 501, 37)
    exact = torch.from_numpy(logits).double().log_softmax(-1)[torch.arange(37), targets]
    before = logits.copy()
    found = target_log_probs(logits, targets.tolist())
    np.testing.assert_allclose(found, exact.numpy(), rtol=1e-6, atol=1e-5)
    assert (logits == before).all()


def test_a_perplexity_beyond_floats_is_infinite() -> None:
    """800 nats a token: e to the 800 is no float64."""
    assert Score(np.full(3, -800, np.float32), 5).perplexity == math.inf
    assert Score(np.full(3, -700, np.float32), 5).perplexity == pytest.approx(math.exp(700))
