"""DRY and XTC against llama.cpp's own test cases, and against numbers by hand."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

import pocketgpt
from pocketgpt import GenerationOptions
from pocketgpt.generation.pipeline import Pipeline, choose_tokens
from pocketgpt.generation.processors import softmax
from pocketgpt.generation.processors.dry import Dry
from pocketgpt.generation.processors.narrowing import exclude_top

A, B, C, Y = range(4)
EXAMPLE = [
    A,
    B,
    C,
    C,
    B,
    C,
    Y,
    A,
    B,
    C,
]  # of llama.cpp: repeats 3 before C, 2 before Y


def penalties(
    text: list[int],
    multiplier: float = 0.8,
    base: float = 1.75,
    allowed: int = 2,
    last_n: int = -1,
    breakers: dict[int, list[tuple[int, ...]]] | None = None,
) -> list[float]:
    dry = Dry(multiplier, base, allowed, last_n, breakers or {}, text[: len(text) // 2])
    for token_id in text[len(text) // 2 :]:
        dry = dry.fork()
        dry.accept(token_id)
    logits = np.zeros(5, np.float32)
    dry.process(logits)
    return [-float(logit) for logit in logits]


@pytest.mark.parametrize(
    ("text", "expected", "arguments"),
    [  # tests/test-sampling.cpp of llama.cpp: probabilities, all equal before
        ([0, 1], [0.25] * 4, (1.0, 1.1, 2, 4)),
        ([0, 1, 2, 0, 1], [0.296923, 0.296923, 0.109232, 0.296923], (1.0, 1.1, 2, 5)),
        ([0, 1, 3, 4, 0, 1], [0.2] * 5, (1.0, 1.1, 2, 6, {3: [()]})),
        ([0, 1, 2, 0, 1], [0.241818, 0.241818, 0.032727, 0.241818, 0.241818], (2.0, 1.1, 2, 5)),
        ([0, 1, 2, 3, 4, 0, 1], [0.2] * 5, (1.0, 1.1, 4, 7)),
    ],
)
def test_dry_equals_llama_cpp(
    text: list[int], expected: list[float], arguments: tuple[Any, ...]
) -> None:
    found = penalties(text, *arguments)[: len(expected)]
    np.testing.assert_allclose(softmax(-np.array(found, np.float32)), expected, atol=1e-6)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({}, {C: 0.8 * 1.75, Y: 0.8}),
        ({"allowed": 1}, {C: 0.8 * 1.75**2, Y: 0.8 * 1.75, B: 0.8}),
        ({"allowed": 3}, {C: 0.8}),
        ({"allowed": 4}, {}),
        ({"base": 1.0}, {C: 0.8, Y: 0.8}),
        ({"breakers": {Y: [()]}}, {C: 0.8 * 1.75}),  # a breaker itself loses nothing
        ({"breakers": {A: [()]}}, {C: 0.8, Y: 0.8}),  # two tokens since: no longer repetition
        ({"breakers": {B: [()]}}, {}),
        ({"breakers": {A: [(B,)]}}, {}),  # one token since A and B together
        ({"breakers": {A: [(C,)]}}, {C: 0.8 * 1.75, Y: 0.8}),  # no such sequence in the text
        ({"last_n": 5, "allowed": 1}, {Y: 0.8}),
        ({"last_n": 2}, {}),
        ({"last_n": 8}, {Y: 0.8}),  # C C B C Y A B C: "B C" before Y, nothing longer
    ],
    ids=str,
)
def test_dry_by_hand(arguments: dict[str, Any], expected: dict[int, float]) -> None:
    found = penalties(EXAMPLE, **arguments)
    np.testing.assert_allclose(found, [expected.get(i, 0) for i in range(5)], rtol=1e-6)


def repeats_by_definition(
    text: list[int], breaker: int, allowed: int, last_n: int
) -> dict[int, int]:
    """Each token's longest repetition that it would go on with, by comparing all with all."""
    window = text[-last_n:]
    since = next((i for i, t in enumerate(reversed(window)) if t == breaker), len(window))
    longest: dict[int, int] = {}
    for end in range(len(window) - 1):
        length = 0
        while length <= end and window[end - length] == window[len(window) - 1 - length]:
            length += 1
        length = min(length, since)
        if length >= allowed and len(window) > allowed:
            longest[window[end + 1]] = max(longest.get(window[end + 1], 0), length)
    return longest if since >= allowed else {}


def test_dry_equals_comparing_all_with_all() -> None:
    random = np.random.default_rng(3)
    for _ in range(200):
        text = random.integers(0, 4, int(random.integers(2, 400))).tolist()
        allowed, last_n = int(random.integers(1, 4)), int(random.integers(1, 500))
        found = penalties(text, 1.0, 2.0, allowed, last_n, {3: [()]})
        repeats = repeats_by_definition(text, 3, allowed, last_n)
        expected = [
            2.0 ** min(repeats[i] - allowed, int(88.7228391 / math.log(2)))
            if i in repeats and i != 3
            else 0
            for i in range(5)
        ]
        np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_breakers_are_the_tokens_that_hold_or_begin_them(tiny: pocketgpt.Model) -> None:
    breakers = tiny.vocabulary.breakers([" s"])
    texts = {i: tiny.tokenizer.token_bytes(i) for i in range(tiny.config.vocab_size)}
    assert {i for i, tails in breakers.items() if () in tails} == {
        i for i, text in texts.items() if b" s" in text
    }
    rest = tuple(tiny.tokenizer.encode("s"))
    assert {i for i, tails in breakers.items() if rest in tails} == {
        i for i, text in texts.items() if text.endswith(b" ") and b" s" not in text
    }


def test_dry_stops_a_repetition(tiny: pocketgpt.Model) -> None:
    prompt = "the ships the ships the"
    usual = tiny.generate(prompt, max_new_tokens=20, logit_bias={5: 60, 7: 60})
    assert set(usual.token_ids) <= {5, 7}
    broken = tiny.generate(prompt, max_new_tokens=20, logit_bias={5: 60, 7: 60}, dry_multiplier=1e6)
    assert not set(broken.token_ids) <= {5, 7}


@pytest.mark.parametrize(
    ("threshold", "left"),
    [(0.09, [0.1]), (0.19, [0.2, 0.1]), (0.29, [0.3, 0.2, 0.1]), (0.39, [0.4, 0.3, 0.2, 0.1])],
)
def test_xtc_equals_llama_cpp(threshold: float, left: list[float]) -> None:
    """Its own test cases in tests/test-sampling.cpp."""
    probabilities = np.array([0.4, 0.3, 0.2, 0.1], np.float32)
    kept = exclude_top(np.log(probabilities), threshold)
    np.testing.assert_allclose(probabilities[kept], left)


def test_xtc_comes_as_often_as_asked_and_after_what_cuts_the_tail() -> None:
    """top_k 3 leaves 4/9, 3/9 and 2/9, which all reach 0.2; so XTC leaves the third alone."""
    logits = np.log(np.array([[0.1, 0.4, 0.3, 0.2]], np.float32))
    options = GenerationOptions(do_sample=True, top_k=3, xtc_probability=0.5, xtc_threshold=0.2)
    pipelines, random = [Pipeline.build(options, [0], 9)], np.random.default_rng(1)
    draws = 8000
    drawn = [int(choose_tokens(pipelines, logits, [random])[0]) for _ in range(draws)]
    expected = np.array([0, 0.5 * 4 / 9, 0.5 * 3 / 9, 0.5 + 0.5 * 2 / 9])
    counts = np.bincount(drawn, minlength=4)
    deviation = np.sqrt(draws * expected * (1 - expected))
    assert (np.abs(counts - draws * expected) <= 4 * deviation).all()


@pytest.mark.parametrize("threshold", [0.51, 1.0])
def test_xtc_above_a_half_is_off(threshold: float) -> None:
    offers: list[dict[str, Any]] = [{}, {"xtc_probability": 1.0, "xtc_threshold": threshold}]
    logits = np.log(np.array([[0.1, 0.4, 0.3, 0.2]], np.float32))
    for seed in range(20):
        drawn = [
            choose_tokens(
                [Pipeline.build(GenerationOptions(do_sample=True, **options), [0], 9)],
                logits,
                [np.random.default_rng(seed)],
            )[0]
            for options in offers
        ]
        assert drawn[0] == drawn[1]
