"""Every processor against transformers' class of the same job, on 200 random cases each."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from transformers import GenerationConfig, GPT2Config, GPT2LMHeadModel
from transformers.generation import logits_process as reference

from pocketgpt.errors import OptionError
from pocketgpt.generation.constraints import (
    ban_repeated_ngrams,
    ban_tokens,
    ban_words,
    force_tokens,
)
from pocketgpt.generation.options import GenerationOptions
from pocketgpt.generation.penalties import Ids, add_bias, penalize_repetition, penalize_use
from pocketgpt.generation.pipeline import choose, constrain, warp
from pocketgpt.generation.processors import (
    Logits,
    apply_temperature,
    keep_min_p,
    keep_top_k,
    keep_top_p,
    keep_typical,
    log_softmax,
    softmax,
)

CASES = 200
Random = np.random.Generator


def cases(seed: int) -> Iterator[tuple[Random, Ids, Logits]]:
    """Yield ids of few kinds, so that n-grams come twice, and logits, some already ruled out."""
    random = np.random.default_rng(seed)
    for _ in range(CASES):
        batch_size, vocab = int(random.integers(1, 5)), int(random.integers(8, 300))
        ids = random.integers(0, min(vocab, 6), (batch_size, int(random.integers(1, 40))))
        logits = random.normal(0, 4, (batch_size, vocab)).astype(np.float32)
        if random.random() < 0.3:
            logits[:, random.integers(0, vocab, vocab // 4)] = -np.inf
            logits[:, 1] = 1.0
        yield random, ids, logits


def assert_equal(found: Logits, processor: Any, ids: Ids, logits: Logits) -> None:
    before = logits.copy()
    expected = processor(torch.tensor(ids), torch.tensor(logits)).numpy()
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6)
    np.testing.assert_array_equal(logits, before)


Draw = Callable[[Random, int], tuple[Callable[[Logits, Ids], Logits], Any]]


def _temperature(random: Random, vocab: int) -> Any:
    value = float(random.uniform(0.1, 3))
    return lambda x, ids: apply_temperature(x, value), reference.TemperatureLogitsWarper(value)


def _top_k(random: Random, vocab: int) -> Any:
    k, keep = int(random.integers(1, vocab + 5)), int(random.integers(1, 4))
    return (
        lambda x, ids: keep_top_k(x, k, keep),
        reference.TopKLogitsWarper(k, min_tokens_to_keep=keep),
    )


def _top_p(random: Random, vocab: int) -> Any:
    p, keep = float(random.uniform(0.05, 0.999)), int(random.integers(1, 4))
    return (
        lambda x, ids: keep_top_p(x, p, keep),
        reference.TopPLogitsWarper(p, min_tokens_to_keep=keep),
    )


def _min_p(random: Random, vocab: int) -> Any:
    p, keep = float(random.uniform(0, 1)), int(random.integers(1, 4))
    return (
        lambda x, ids: keep_min_p(x, p, keep),
        reference.MinPLogitsWarper(p, min_tokens_to_keep=keep),
    )


def _typical(random: Random, vocab: int) -> Any:
    p, keep = float(random.uniform(0.05, 0.99)), int(random.integers(1, 4))
    return (
        lambda x, ids: keep_typical(x, p, keep),
        reference.TypicalLogitsWarper(p, min_tokens_to_keep=keep),
    )


def _repetition(random: Random, vocab: int) -> Any:
    penalty = float(random.uniform(0.5, 2))
    return (
        lambda x, ids: penalize_repetition(x, ids, penalty),
        reference.RepetitionPenaltyLogitsProcessor(penalty),
    )


def _ngrams(random: Random, vocab: int) -> Any:
    size = int(random.integers(1, 6))
    return (
        lambda x, ids: ban_repeated_ngrams(x, ids, size),
        reference.NoRepeatNGramLogitsProcessor(size),
    )


def _words(random: Random, vocab: int) -> Any:
    words = [random.integers(0, 6, random.integers(1, 4)).tolist() for _ in range(8)]
    return (
        lambda x, ids: ban_words(x, ids, words, [0, 2]),
        reference.NoBadWordsLogitsProcessor(words, eos_token_id=[0, 2]),
    )


def _suppress(random: Random, vocab: int) -> Any:
    tokens = random.integers(0, vocab + 3, 5).tolist()
    return (
        lambda x, ids: ban_tokens(x, tokens),
        reference.SuppressTokensLogitsProcessor(tokens),
    )


def _forced(random: Random, vocab: int) -> Any:
    tokens = random.integers(0, vocab, 2).tolist()

    class Here:  # transformers' class acts at one length: make it this one
        def __call__(self, ids: torch.Tensor, logits: torch.Tensor) -> torch.Tensor:
            processor = reference.ForcedEOSTokenLogitsProcessor(ids.shape[1] + 1, tokens)
            forced: torch.Tensor = processor(ids, logits)
            return forced

    return lambda x, ids: force_tokens(x, tokens), Here()


def _bias(random: Random, vocab: int) -> Any:
    bias = {int(i): float(random.uniform(-100, 100)) for i in random.integers(0, vocab, 6)}
    sequences: Any = {(token_id,): amount for token_id, amount in bias.items()}
    return (
        lambda x, ids: add_bias(x, bias),
        reference.SequenceBiasLogitsProcessor(sequences),
    )


DRAWS: list[Draw] = [
    _temperature,
    _top_k,
    _top_p,
    _min_p,
    _typical,
    _repetition,
    _ngrams,
    _words,
    _suppress,
    _forced,
    _bias,
]


@pytest.mark.parametrize("draw", DRAWS, ids=lambda draw: draw.__name__.strip("_"))
def test_equals_transformers(draw: Draw) -> None:
    for random, ids, logits in cases(DRAWS.index(draw)):
        function, processor = draw(random, logits.shape[1])
        assert_equal(function(logits, ids), processor, ids, logits)


def test_min_new_tokens_equals_transformers() -> None:
    for random, ids, logits in cases(50):
        prompt = int(random.integers(0, ids.shape[1] + 1))
        fewest, eos = int(random.integers(0, 20)), random.integers(0, 8, 2).tolist()
        options = GenerationOptions(min_new_tokens=fewest, eos_token_id=eos)
        processor = reference.MinNewTokensLengthLogitsProcessor(prompt, fewest, eos)
        assert_equal(constrain(logits, ids, prompt, 99, options), processor, ids, logits)


def test_softmax_and_log_softmax_equal_torch() -> None:
    for _, _, logits in cases(51):
        tensor = torch.tensor(logits)
        np.testing.assert_allclose(softmax(logits), torch.softmax(tensor, -1), atol=1e-6)
        expected = torch.log_softmax(tensor, -1).numpy()
        np.testing.assert_allclose(log_softmax(logits), expected, rtol=1e-6, atol=1e-6)


def test_use_is_penalized_as_openai_defines_it() -> None:
    logits = np.zeros((2, 4), np.float32)
    new_ids = np.array([[1, 1, 3], [0, 2, 0]])
    found = penalize_use(logits, new_ids, presence=0.5, frequency=0.25)
    expected = [[0, -1.0, 0, -0.75], [-1.0, 0, -0.75, 0]]
    np.testing.assert_array_equal(found, np.array(expected, np.float32))
    nothing_yet = penalize_use(logits, new_ids[:, :0], presence=0.5, frequency=0.25)
    np.testing.assert_array_equal(nothing_yet, logits)


def random_options(random: Random, vocab: int) -> dict[str, Any]:
    """Options that transformers has, half of them given at random."""
    offers: dict[str, Any] = {
        "repetition_penalty": float(random.uniform(0.8, 1.5)),
        "no_repeat_ngram_size": int(random.integers(1, 4)),
        "bad_words_ids": [[int(random.integers(0, 6))], random.integers(0, 6, 2).tolist()],
        "min_new_tokens": int(random.integers(1, 30)),
        "suppress_tokens": random.integers(0, vocab, 2).tolist(),
        "forced_eos_token_id": int(random.integers(0, vocab)),
        "temperature": float(random.uniform(0.2, 2)),
        "top_k": int(random.integers(0, vocab)),
        "top_p": float(random.uniform(0.2, 1)),
        "min_p": float(random.uniform(0, 0.3)),
        "typical_p": float(random.uniform(0.2, 0.99)),
        "eos_token_id": random.integers(0, vocab, 2).tolist(),
    }
    given = {name: value for name, value in offers.items() if random.random() < 0.5}
    return {"top_k": 50, "do_sample": bool(random.random() < 0.7), **given}


def transformers_scores(
    model: Any, options: dict[str, Any], ids: Ids, prompt: int, budget: int, row: Logits
) -> NDArray[np.float32]:
    """What transformers' own list of processors, in its own order, makes of the logits."""
    config = GenerationConfig(**options, max_length=prompt + budget)
    model._prepare_special_tokens(config)
    processors = model._get_logits_processor(
        config, input_ids_seq_length=prompt, encoder_input_ids=torch.tensor(ids)
    )
    scores: NDArray[np.float32] = processors(torch.tensor(ids), torch.tensor(row)).numpy()
    return scores


@pytest.mark.filterwarnings("ignore::UserWarning")  # transformers': top_p without do_sample
def test_all_together_in_transformers_order() -> None:
    model = GPT2LMHeadModel(GPT2Config(n_embd=8, n_layer=1, n_head=1, vocab_size=9))
    compared = 0
    for random, ids, logits in cases(52):
        given = random_options(random, logits.shape[1])
        prompt, budget = int(random.integers(1, ids.shape[1] + 1)), int(random.integers(1, 40))
        if prompt + budget <= ids.shape[1]:
            continue
        options = GenerationOptions(**given)
        found = constrain(logits, ids, prompt, budget, options)
        if not (found > -np.inf).any(axis=-1).all():
            continue
        if options.do_sample:
            found = warp(found, options)
        expected = transformers_scores(model, given, ids, prompt, budget, logits)
        np.testing.assert_allclose(found, expected, rtol=0, atol=2e-6)
        compared += 1
    assert compared > CASES / 2


def test_nothing_left_to_choose_is_refused() -> None:
    nothing = np.full((1, 5), -np.inf, np.float32)
    for do_sample in (False, True):
        options = GenerationOptions(do_sample=do_sample)
        with pytest.raises(OptionError, match="rule out every token"):
            choose(nothing, options, np.random.default_rng(0))


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"temperature": 0.7},
        {"top_k": 5},
        {"top_k": 0, "top_p": 0.8},
        {"top_k": 0, "min_p": 0.1},
        {"top_k": 0, "typical_p": 0.95},
        {"temperature": 1.5, "top_k": 12, "top_p": 0.9},
    ],
    ids=str,
)
def test_draws_follow_the_distribution(options: dict[str, Any]) -> None:
    """Pearson's chi-square of 4,000 draws against the exact probabilities, fixed seed."""
    logits = np.random.default_rng(3).normal(0, 1.5, (1, 20)).astype(np.float32)
    chosen = GenerationOptions(do_sample=True, **options)
    exact = softmax(warp(logits, chosen))[0].astype(np.float64)
    random, draws = np.random.default_rng(4), 4_000
    counts = np.bincount([choose(logits, chosen, random) for _ in range(draws)], minlength=20)
    possible = exact > 0
    assert not counts[~possible].any()
    expected = exact[possible] * draws
    statistic = float(((counts[possible] - expected) ** 2 / expected).sum())
    degrees = int(possible.sum()) - 1
    # Wilson and Hilferty's approximation of the 99.9% point of chi-square.
    limit = degrees * (1 - 2 / (9 * degrees) + 3.09 * np.sqrt(2 / (9 * degrees))) ** 3
    assert statistic < limit
