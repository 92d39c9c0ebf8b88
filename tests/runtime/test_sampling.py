"""Drawing tokens: the right distribution, and the same text for the same seed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from transformers import TemperatureLogitsWarper, TopKLogitsWarper, TopPLogitsWarper

import pocketgpt
from pocketgpt import GenerationOptions
from pocketgpt.generation.pipeline import Pipeline, choose_tokens

if TYPE_CHECKING:
    from transformers import GPT2LMHeadModel

# Chi-square's 99.9th percentile, by degrees of freedom.
CRITICAL = {1: 10.83, 2: 13.82, 3: 16.27, 4: 18.47, 5: 20.52, 6: 22.46, 7: 24.32, 9: 27.88}


def expected_probabilities(logits: torch.Tensor, options: dict[str, Any]) -> NDArray[np.float64]:
    """transformers' distribution over the next token, its processors in its order."""
    ids = torch.zeros((1, 1), dtype=torch.long)
    if "temperature" in options:
        logits = TemperatureLogitsWarper(options["temperature"])(ids, logits)
    if options.get("top_k", 50):
        logits = TopKLogitsWarper(options.get("top_k", 50))(ids, logits)
    if "top_p" in options:
        logits = TopPLogitsWarper(options["top_p"])(ids, logits)
    found: NDArray[np.float64] = torch.softmax(logits[0].double(), -1).numpy()
    return found


def assert_drawn_from(drawn: list[int], probabilities: NDArray[np.float64]) -> None:
    """Pearson's chi-square test; a token of probability 0 must never come."""
    counts = np.bincount(drawn, minlength=len(probabilities))
    possible = probabilities > 0
    assert not counts[~possible].any()
    expected = probabilities[possible] * len(drawn)
    assert expected.min() >= 5, "the test needs more draws"
    statistic = ((counts[possible] - expected) ** 2 / expected).sum()
    assert statistic < CRITICAL[len(expected) - 1]


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"top_k": 0},
        {"temperature": 0.6},
        {"temperature": 3.0},
        {"top_k": 3},
        {"top_p": 0.8},
        {"temperature": 1.5, "top_k": 5, "top_p": 0.9},
    ],
    ids=str,
)
def test_choose_draws_from_the_distribution(options: dict[str, Any]) -> None:
    logits = np.array([[0.3, 2.0, -0.5, 1.1, 0.0, 1.7, -0.2, 0.9]], np.float32)
    pipelines = [Pipeline.build(GenerationOptions(do_sample=True, **options), [0], 9)]
    random = np.random.default_rng(5)
    drawn = [int(choose_tokens(pipelines, logits, [random])[0]) for _ in range(8000)]
    assert_drawn_from(drawn, expected_probabilities(torch.tensor(logits), options))


@pytest.mark.parametrize(
    "options",
    [
        {"top_k": 0},
        {"temperature": 0.7},
        {"temperature": 1.3, "top_k": 5, "top_p": 0.9},
        {"top_k": 0, "top_p": 0.8},
    ],
    ids=str,
)
@pytest.mark.parametrize("vocab", [300, 20_000])
def test_a_draw_is_where_a_random_number_falls_among_the_tokens(
    options: dict[str, Any], vocab: int
) -> None:
    """In the order of their ids: so one seed gives one text, whatever finds the tokens."""
    logits = np.random.default_rng(2).normal(0, 3, (4, vocab)).astype(np.float32)
    pipelines = [Pipeline.build(GenerationOptions(do_sample=True, **options), [0], 9)] * 4
    for seed in range(50):
        drawn = choose_tokens(
            pipelines, logits, [np.random.default_rng(seed + i) for i in range(4)]
        )
        for row, scores in enumerate(logits):
            exact = expected_probabilities(torch.tensor(scores[None]), options)
            number = np.random.default_rng(seed + row).random()
            assert drawn[row] == int(np.cumsum(exact).searchsorted(number, side="right"))


def test_generate_draws_from_pytorchs_distribution(
    tiny: pocketgpt.Model, tiny_reference: GPT2LMHeadModel
) -> None:
    """First tokens over many seeds: seeds are independent draws."""
    prompt = "The ships"
    ids = torch.tensor([tiny.tokenizer.encode(prompt)])
    with torch.inference_mode():
        logits = tiny_reference(ids).logits[:, -1]
    options: dict[str, Any] = {"temperature": 2.5, "top_k": 8}
    drawn = [
        tiny.generate(prompt, do_sample=True, max_new_tokens=1, seed=seed, **options).token_ids[0]
        for seed in range(1500)
    ]
    assert_drawn_from(drawn, expected_probabilities(logits, options))


def test_same_seed_same_text(tiny: pocketgpt.Model) -> None:
    options: dict[str, Any] = {"do_sample": True, "max_new_tokens": 30, "temperature": 2.0}
    first = tiny.generate("Once", seed=7, **options)
    second = tiny.generate("Once", seed=7, **options)
    assert first.token_ids == second.token_ids
    assert first.text == second.text
    assert "".join(tiny.stream("Once", seed=7, **options)) == first.text


def test_different_seeds_and_none_differ(tiny: pocketgpt.Model) -> None:
    options: dict[str, Any] = {
        "do_sample": True,
        "max_new_tokens": 30,
        "temperature": 2.0,
        "top_k": 0,
    }
    seeds = [0, 1, 2, 3, None, None]
    texts = {tuple(tiny.generate("Once", seed=seed, **options).token_ids) for seed in seeds}
    assert len(texts) == len(seeds)


def test_top_k_1_and_tiny_top_p_are_greedy(tiny: pocketgpt.Model) -> None:
    greedy = tiny.generate("Once", max_new_tokens=20).token_ids
    for options in ({"top_k": 1}, {"top_p": 1e-6}, {"temperature": 1e-4}):
        sampled = tiny.generate("Once", do_sample=True, seed=1, max_new_tokens=20, **options)
        assert sampled.token_ids == greedy


def test_greedy_takes_the_first_of_equals() -> None:
    """As PyTorch's argmax."""
    logits = np.array([[1, 3, 3, 2]], np.float32)
    chosen = choose_tokens([Pipeline.build(GenerationOptions(), [0], 9)], logits, [None])[0]
    assert chosen == int(torch.tensor(logits)[0].argmax()) == 1
