"""Every processor against transformers' class of the same job, on 200 random cases each."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from transformers import GenerationConfig, GPT2Config, GPT2LMHeadModel
from transformers.generation import logits_process as reference

from pocketgpt.errors import OptionError
from pocketgpt.generation.options import GenerationOptions
from pocketgpt.generation.pipeline import Pipeline, choose_tokens
from pocketgpt.generation.processors import Ids, Logits, Processor, log_softmax, softmax
from pocketgpt.generation.processors.bad_words import BadWords
from pocketgpt.generation.processors.bias import SequenceBias, TokenBias
from pocketgpt.generation.processors.lengths import LengthDecay, MinNewTokens
from pocketgpt.generation.processors.narrowing import (
    keep_min_p,
    keep_top_k,
    keep_top_p,
    keep_typical,
    scatter,
)
from pocketgpt.generation.processors.ngrams import NoRepeatNgrams
from pocketgpt.generation.processors.repetition import PromptRepetitionPenalty, RepetitionPenalty
from pocketgpt.generation.processors.tokens import ForceTokens, SuppressTokens
from pocketgpt.generation.processors.use_penalty import UsePenalty

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


def assert_close(found: Logits, expected: torch.Tensor) -> None:
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected.numpy(), rtol=0, atol=1e-6)


# What narrows a draw: a function of scores, and transformers' class.
Narrow = Callable[[Random, int], tuple[Callable[[Logits], Ids], Any]]


def _top_k(random: Random, vocab: int) -> Any:
    k, keep = int(random.integers(1, vocab + 5)), int(random.integers(1, 4))
    return (
        lambda scores: keep_top_k(scores, k, keep),
        reference.TopKLogitsWarper(k, min_tokens_to_keep=keep),
    )


def _top_p(random: Random, vocab: int) -> Any:
    p, keep = float(random.uniform(0.05, 0.999)), int(random.integers(1, 4))
    return (
        lambda scores: keep_top_p(scores, p, keep),
        reference.TopPLogitsWarper(p, min_tokens_to_keep=keep),
    )


def _min_p(random: Random, vocab: int) -> Any:
    p, keep = float(random.uniform(0, 1)), int(random.integers(1, 4))
    return (
        lambda scores: keep_min_p(scores, p, keep),
        reference.MinPLogitsWarper(p, min_tokens_to_keep=keep),
    )


def _typical(random: Random, vocab: int) -> Any:
    p, keep = float(random.uniform(0.05, 0.99)), int(random.integers(1, 4))
    return (
        lambda scores: keep_typical(scores, p, keep),
        reference.TypicalLogitsWarper(p, min_tokens_to_keep=keep),
    )


NARROWING: list[Narrow] = [_top_k, _top_p, _min_p, _typical]


@pytest.mark.parametrize("draw", NARROWING, ids=lambda draw: draw.__name__.strip("_"))
def test_narrowing_equals_transformers(draw: Narrow) -> None:
    for random, ids, logits in cases(NARROWING.index(draw)):
        keep, processor = draw(random, logits.shape[1])
        before = logits.copy()
        expected = processor(torch.tensor(ids), torch.tensor(logits))
        kept = [keep(row) for row in logits]
        found = [scatter(row[i], i, len(row)) for row, i in zip(logits, kept, strict=True)]
        assert_close(np.stack(found), expected)
        np.testing.assert_array_equal(logits, before)


@pytest.mark.parametrize("draw", NARROWING, ids=lambda draw: draw.__name__.strip("_"))
@pytest.mark.parametrize("spread", [0.5, 3.0])
def test_narrowing_of_a_whole_vocabulary_equals_transformers(draw: Narrow, spread: float) -> None:
    """Where few are looked at first, and where those are not enough."""
    random = np.random.default_rng(7)
    for _ in range(12):
        logits = random.normal(-90, spread, (1, 50_257)).astype(np.float32)
        logits[0, random.integers(0, 50_257, 9_000)] = -np.inf
        keep, processor = draw(random, 3_000)
        expected = processor(torch.zeros((1, 1), dtype=torch.long), torch.tensor(logits))[0]
        kept = keep(logits[0])
        found = np.isfinite(scatter(logits[0, kept], kept, logits.shape[1]))
        wanted = np.isfinite(expected.numpy())
        # transformers adds tens of thousands of float32 probabilities up one by one.
        assert (found != wanted).sum() <= max(2, 0.002 * wanted.sum())


# A rule with a state: made behind a prompt, and transformers' class made behind the same.
Rule = Callable[[Random, int], tuple[Callable[[list[int]], Processor], Callable[[list[int]], Any]]]


def _repetition(random: Random, vocab: int) -> Any:
    penalty = float(random.uniform(0.5, 2))
    return (
        lambda prompt: RepetitionPenalty(prompt, penalty),
        lambda prompt: reference.RepetitionPenaltyLogitsProcessor(penalty),
    )


def _prompt_repetition(random: Random, vocab: int) -> Any:
    penalty = float(random.uniform(0.5, 2))
    return (
        lambda prompt: PromptRepetitionPenalty(prompt, penalty),
        lambda prompt: reference.EncoderRepetitionPenaltyLogitsProcessor(
            penalty, torch.LongTensor([prompt])
        ),
    )


def _ngrams(random: Random, vocab: int) -> Any:
    size = int(random.integers(1, 6))
    return (
        lambda prompt: NoRepeatNgrams(size, prompt),
        lambda prompt: reference.NoRepeatNGramLogitsProcessor(size),
    )


def _prompt_ngrams(random: Random, vocab: int) -> Any:
    size = int(random.integers(1, 5))
    return (
        lambda prompt: NoRepeatNgrams(size, prompt, prompt_only=True),
        lambda prompt: reference.EncoderNoRepeatNGramLogitsProcessor(
            size, torch.LongTensor([prompt])
        ),
    )


def _words(random: Random, vocab: int) -> Any:
    words = [random.integers(0, 6, random.integers(1, 4)).tolist() for _ in range(8)]
    return (
        lambda prompt: BadWords(words, [0, 2], prompt),
        lambda prompt: reference.NoBadWordsLogitsProcessor(words, eos_token_id=[0, 2]),
    )


def _sequence_bias(random: Random, vocab: int) -> Any:
    bias = {
        tuple(random.integers(0, 6, random.integers(1, 4)).tolist()): float(random.normal(0, 5))
        for _ in range(8)
    }
    return (
        lambda prompt: SequenceBias(bias, prompt),
        lambda prompt: reference.SequenceBiasLogitsProcessor(bias),  # type: ignore[arg-type]
    )


def _suppress(random: Random, vocab: int) -> Any:
    tokens = random.integers(0, vocab + 3, 5).tolist()
    return (
        lambda prompt: SuppressTokens(tokens),
        lambda prompt: reference.SuppressTokensLogitsProcessor(tokens),
    )


def _min_new_tokens(random: Random, vocab: int) -> Any:
    fewest, eos = int(random.integers(0, 20)), random.integers(0, 8, 2).tolist()
    return (
        lambda prompt: MinNewTokens(fewest, eos),
        lambda prompt: reference.MinNewTokensLengthLogitsProcessor(len(prompt), fewest, eos),
    )


def _min_length(random: Random, vocab: int) -> Any:
    fewest, eos = int(random.integers(0, 40)), random.integers(0, 8, 2).tolist()
    return (
        lambda prompt: MinNewTokens(fewest - len(prompt), eos),
        lambda prompt: reference.MinLengthLogitsProcessor(fewest, eos),
    )


def _forced_bos(random: Random, vocab: int) -> Any:
    token = int(random.integers(0, vocab))
    return (
        lambda prompt: ForceTokens([token], 0 if len(prompt) == 1 else -1),
        lambda prompt: reference.ForcedBOSTokenLogitsProcessor(token),
    )


def _forced_eos(random: Random, vocab: int) -> Any:
    tokens, budget = random.integers(0, vocab, 2).tolist(), int(random.integers(1, 20))
    return (
        lambda prompt: ForceTokens(tokens, budget - 1),
        lambda prompt: reference.ForcedEOSTokenLogitsProcessor(len(prompt) + budget, tokens),
    )


def _decay(random: Random, vocab: int) -> Any:
    start, factor = int(random.integers(0, 20)), float(random.uniform(0.8, 1.3))
    eos = random.choice(np.arange(3, 8), 2, replace=False).tolist()
    return (
        lambda prompt: LengthDecay(start, factor, eos),
        lambda prompt: reference.ExponentialDecayLengthPenalty((start, factor), eos, len(prompt)),
    )


def _bias(random: Random, vocab: int) -> Any:
    bias = {int(i): float(random.uniform(-100, 100)) for i in random.integers(0, vocab, 6)}
    sequences: Any = {(token_id,): amount for token_id, amount in bias.items()}
    return (
        lambda prompt: TokenBias(bias),
        lambda prompt: reference.SequenceBiasLogitsProcessor(sequences),
    )


RULES: list[Rule] = [
    _repetition,
    _prompt_repetition,
    _ngrams,
    _prompt_ngrams,
    _words,
    _sequence_bias,
    _suppress,
    _min_new_tokens,
    _min_length,
    _forced_bos,
    _forced_eos,
    _decay,
    _bias,
]


@pytest.mark.parametrize("draw", RULES, ids=lambda draw: draw.__name__.strip("_"))
def test_rules_equal_transformers_at_every_length(draw: Rule) -> None:
    """The state that goes on token by token, and that of a fork, give what the whole text does."""
    for random, ids, logits in cases(10 + RULES.index(draw)):
        make, make_reference = draw(random, logits.shape[1])
        for text, scores in zip(ids.tolist(), logits, strict=True):
            prompt_length = int(random.integers(1, len(text) + 1))
            rule, processor = make(text[:prompt_length]), make_reference(text[:prompt_length])
            for length in range(prompt_length, len(text) + 1):
                if length > prompt_length:
                    left_behind, rule = rule, rule.fork()
                    left_behind.accept((text[length - 1] + 1) % 6)  # goes another way
                    rule.accept(text[length - 1])
                found = scores.copy()
                rule.process(found)
                so_far = torch.tensor([text[:length]])
                with np.errstate(invalid="ignore"):
                    expected = processor(so_far, torch.tensor(scores[None]))[0]
                if draw is _decay:  # where the end of text is ruled out it makes a NaN
                    expected = expected.nan_to_num(nan=-np.inf, posinf=np.inf, neginf=-np.inf)
                assert_close(found, expected)


def test_softmax_and_log_softmax_equal_torch() -> None:
    for _, _, logits in cases(51):
        tensor = torch.tensor(logits)
        np.testing.assert_allclose(softmax(logits), torch.softmax(tensor, -1), atol=1e-6)
        expected = torch.log_softmax(tensor, -1).numpy()
        np.testing.assert_allclose(log_softmax(logits), expected, rtol=1e-6, atol=1e-6)


def test_use_is_penalized_as_openai_defines_it() -> None:
    for new_ids, expected in (
        ([1, 1, 3], [0, -1.0, 0, -0.75]),
        ([0, 2, 0], [-1.0, 0, -0.75, 0]),
        ([], [0, 0, 0, 0]),
    ):
        penalty = UsePenalty(presence=0.5, frequency=0.25)
        for token_id in new_ids:
            penalty.accept(token_id)
        logits = np.zeros(4, np.float32)
        penalty.process(logits)
        np.testing.assert_array_equal(logits, np.array(expected, np.float32))


def random_options(random: Random, vocab: int) -> dict[str, Any]:
    """Options that transformers has, half of them given at random."""
    offers: dict[str, Any] = {
        "sequence_bias": {(int(random.integers(0, 6)), 1): 2.5, (3,): -1.5},
        "encoder_repetition_penalty": float(random.uniform(0.8, 1.5)),
        "repetition_penalty": float(random.uniform(0.8, 1.5)),
        "no_repeat_ngram_size": int(random.integers(1, 4)),
        "encoder_no_repeat_ngram_size": int(random.integers(1, 4)),
        "bad_words_ids": [[int(random.integers(0, 6))], random.integers(0, 6, 2).tolist()],
        "min_length": int(random.integers(1, 60)),
        "min_new_tokens": int(random.integers(1, 30)),
        "suppress_tokens": random.integers(0, vocab, 2).tolist(),
        "forced_bos_token_id": int(random.integers(0, vocab)),
        "forced_eos_token_id": int(random.integers(0, vocab)),
        "exponential_decay_length_penalty": (int(random.integers(0, 9)), 1.1),
        "renormalize_logits": True,
        "temperature": float(random.uniform(0.2, 2)),
        "top_k": int(random.integers(0, vocab)),
        "top_p": float(random.uniform(0.2, 1)),
        "min_p": float(random.uniform(0, 0.3)),
        "typical_p": float(random.uniform(0.2, 0.99)),
        "eos_token_id": random.choice(vocab, 2, replace=False).tolist(),
        "num_beams": 3,
    }
    given = {name: value for name, value in offers.items() if random.random() < 0.5}
    if "eos_token_id" not in given:  # transformers' class fails without
        given.pop("exponential_decay_length_penalty", None)
    return {"top_k": 50, "do_sample": bool(random.random() < 0.7), **given}


def transformers_scores(
    model: Any, options: dict[str, Any], ids: Sequence[int], prompt: int, budget: int, row: Logits
) -> NDArray[np.float32]:
    """What transformers' own list of processors, in its own order, makes of the logits."""
    config = GenerationConfig(**options, max_length=prompt + budget)
    model._prepare_special_tokens(config)
    processors = model._get_logits_processor(
        config, input_ids_seq_length=prompt, encoder_input_ids=torch.tensor([ids[:prompt]])
    )
    scores: Logits = processors(torch.tensor([ids]), torch.tensor(row[None])).numpy()[0]
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
        for text, row in zip(ids.tolist(), logits, strict=True):
            pipeline = Pipeline.build(options, text[:prompt], budget)
            for token_id in text[prompt:]:
                pipeline.accept(token_id)
            found = pipeline.constrain(row.copy())
            if not (found > -np.inf).any():
                continue
            found = pipeline.warp(found)
            expected = transformers_scores(model, given, text, prompt, budget, row)
            if np.isnan(expected).any():  # its decay of an end of text that is ruled out
                continue
            np.testing.assert_allclose(found, expected, rtol=1e-6, atol=4e-6)
            compared += 1
    assert compared > CASES / 2


def choose(logits: Logits, options: GenerationOptions, random: Random | None) -> int:
    return int(choose_tokens([Pipeline.build(options, [0], 9)], logits[None], [random])[0])


def test_nothing_left_to_choose_is_refused() -> None:
    nothing = np.full(5, -np.inf, np.float32)
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
    logits = np.random.default_rng(3).normal(0, 1.5, 20).astype(np.float32)
    chosen = GenerationOptions(do_sample=True, **options)
    exact = softmax(Pipeline.build(chosen, [0], 9).warp(logits)).astype(np.float64)
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
