"""Beam search token for token, and score for score, as transformers does it."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest

import pocketgpt
from pocketgpt import OptionError
from pocketgpt.engine.decoder import Decoder

from .conftest import TUTORIAL, Reference

PROMPTS = ["The quick brown fox jumps over the", "A dog", "naïve"]
CALLS: list[dict[str, Any]] = [
    TUTORIAL,
    {"max_new_tokens": 20, "num_beams": 2},
    {"max_new_tokens": 20, "num_beams": 4, "early_stopping": True, "num_return_sequences": 3},
    {"max_new_tokens": 20, "num_beams": 5, "early_stopping": "never", "length_penalty": 2.0},
    {"max_new_tokens": 20, "num_beams": 5, "early_stopping": "never", "length_penalty": -1.0},
    {"max_new_tokens": 20, "num_beams": 4, "length_penalty": 0.0, "num_return_sequences": 4},
    {"max_new_tokens": 20, "num_beams": 3, "eos_token_id": [5, 9, 40], "num_return_sequences": 2},
    {"max_new_tokens": 15, "num_beams": 4, "min_new_tokens": 9, "repetition_penalty": 1.3},
    {"max_new_tokens": 12, "num_beams": 4, "forced_eos_token_id": 7, "bad_words_ids": [[30], [9]]},
    {"max_new_tokens": 1, "num_beams": 4, "num_return_sequences": 4},
]


def found(model: pocketgpt.Model, prompt: str, **options: Any) -> list[pocketgpt.GenerationResult]:
    made: Any = model.generate(prompt, **options)
    return made if isinstance(made, list) else [made]


@pytest.mark.filterwarnings("ignore::UserWarning")  # transformers': top_p without do_sample
@pytest.mark.parametrize("call", CALLS, ids=str)
def test_equals_transformers(
    model: pocketgpt.Model, reference: Reference, call: dict[str, Any]
) -> None:
    for prompt in PROMPTS:
        results = found(model, prompt, **call)
        expected = reference(prompt, **call)
        assert [result.token_ids for result in results] == [ids for ids, _ in expected]
        for result, (_, score) in zip(results, expected, strict=True):
            assert result.score == pytest.approx(score, rel=1e-5, abs=1e-5)


def test_a_list_gives_every_prompt_its_own(model: pocketgpt.Model) -> None:
    options: dict[str, Any] = {"num_beams": 3, "num_return_sequences": 2, "max_new_tokens": 8}
    together = model.generate(PROMPTS, **options)
    alone = [result for prompt in PROMPTS for result in found(model, prompt, **options)]
    assert [r.token_ids for r in together] == [r.token_ids for r in alone]


def test_a_step_copies_only_what_beams_do_not_share(
    model: pocketgpt.Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A row is overwritten from where its beam and the other parted, never from the prompt on."""
    copied: list[tuple[int, int]] = []
    original = Decoder.copy_slot

    def copy_slot(
        self: Decoder, source: int, target: int, start: int = 0, end: int | None = None
    ) -> None:
        for one, other in zip(self.read(source), self.read(target), strict=True):
            assert (one[:, :, :start] == other[:, :, :start]).all()
        copied.append((start, int(self.lengths[source])))
        original(self, source, target, start, end)

    monkeypatch.setattr(Decoder, "copy_slot", copy_slot)
    prompt = "The quick brown fox jumps over the lazy dog"
    length = len(model.tokenizer.encode(prompt))
    model.generate(prompt, num_beams=4, max_new_tokens=16, eos_token_id=[])
    assert copied[:3] == [(0, length)] * 3  # the prompt, once for each further beam
    assert all(length <= start <= end for start, end in copied[3:])
    assert max(end - start for start, end in copied[3:]) > 1


def test_beam_sampling_draws_without_replacement(model: pocketgpt.Model) -> None:
    """With one new token, the beams are draws from the model's own distribution."""
    decoder = model.new_decoder()
    logits = decoder.prefill(model.tokenizer.encode("A dog"))[0].astype(np.float64)
    exact = np.exp(logits - logits.max())
    exact /= exact.sum()
    firsts: Counter[int] = Counter()
    for seed in range(400):
        results = found(
            model,
            "A dog",
            max_new_tokens=1,
            num_beams=2,
            num_return_sequences=2,
            do_sample=True,
            top_k=0,
            seed=seed,
        )
        ids = [result.token_ids[0] for result in results]
        assert len(set(ids)) == 2
        firsts.update(ids)
    likely = np.argsort(-exact)[:2]
    # A token is among two draws without replacement with this probability.
    for token in likely.tolist():
        others = np.delete(exact, token)
        chance = exact[token] + (others * exact[token] / (1 - others)).sum()
        deviation = np.sqrt(400 * chance * (1 - chance))
        assert abs(firsts[token] - 400 * chance) < 4 * deviation + 1


def test_a_seed_repeats_beam_sampling(model: pocketgpt.Model) -> None:
    options = {"num_beams": 3, "do_sample": True, "max_new_tokens": 10, "temperature": 1.5}
    first = found(model, "A dog", seed=3, **options)[0].token_ids
    assert found(model, "A dog", seed=3, **options)[0].token_ids == first
    assert any(found(model, "A dog", seed=s, **options)[0].token_ids != first for s in range(5))


def test_stop_strings_end_a_beam(model: pocketgpt.Model) -> None:
    options = {"num_beams": 3, "max_new_tokens": 20, "eos_token_id": []}
    stop = found(model, "A dog", **options)[0].text[2:4]
    for result in found(model, "A dog", num_return_sequences=3, stop_strings=stop, **options):
        assert stop not in result.text
        ended = stop in model.tokenizer.decode(result.token_ids)
        assert (result.finish_reason == "stop") == ended


def test_a_cancelled_search_gives_the_best_so_far(model: pocketgpt.Model) -> None:
    stream = model.stream("A dog", num_beams=3, max_new_tokens=20)
    stream.cancel()
    assert list(stream) == []
    assert stream.result is not None
    assert stream.result.finish_reason == "cancelled"
    result = model.generate("A dog", num_beams=3, max_new_tokens=20, max_time=1e-9, eos_token_id=[])
    assert (result.finish_reason, len(result.token_ids)) == ("time", 1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_beams": 2, "num_return_sequences": 3}, "more than num_beams"),
        ({"num_return_sequences": 2}, "same text 2 times"),
        ({"num_beams": 2, "logprobs": 1}, "logprobs"),
        ({"num_beams": 2, "context_overflow": "reprefill"}, "num_beams=1"),
        ({"num_beams": 0}, "num_beams should be"),
        ({"num_beams": 2, "early_stopping": "maybe"}, "early_stopping should be"),
        ({"num_beams": 2, "length_penalty": float("nan")}, "length_penalty should be"),
    ],
)
def test_what_does_not_go_together_is_refused(
    model: pocketgpt.Model, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(OptionError, match=message):
        model.generate("A dog", **options)
