"""Prompt lookup: the tokens of plain decoding in fewer passes, no guesses where none pays."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import pocketgpt
from pocketgpt import OptionError
from pocketgpt.generation.speculation import LONGEST_PAUSE, SHORTEST_PAUSE, Speculation

PROMPTS = (
    "a b a b a b a b",
    "The keeper counted. The keeper counted. The",
    "灯台守は灯台守は灯",
    "💃💃💃💃",
    "",
    "def f(x):\n\treturn x\n\ndef f(x):\n",
)
WAYS: dict[str, dict[str, Any]] = {
    "greedy": {},
    "drawn": {"do_sample": True, "seed": 3, "top_k": 3},
    "penalties": {"repetition_penalty": 1.3, "no_repeat_ngram_size": 4, "presence_penalty": 0.5},
    "logprobs": {"logprobs": 2},
    "regex": {"regex": "(ab)*"},
    "eos": {"eos_token_id": [*range(0, 400, 7)]},
    "stop": {"stop_strings": ["e", "は"]},
    "beyond the context": {"context_overflow": "reprefill", "max_new_tokens": 120},
}


@pytest.fixture
def always(monkeypatch: pytest.MonkeyPatch) -> None:
    """Guess at every step, whether it pays or not: on a tiny model nothing does."""
    monkeypatch.setattr("pocketgpt.generation.speculation.SHORTEST_PAUSE", 0)
    monkeypatch.setattr("pocketgpt.generation.speculation.LONGEST_PAUSE", 0)


@pytest.mark.usefixtures("always")
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("prompt", PROMPTS)
def test_the_tokens_are_those_of_plain_decoding(
    tiny: pocketgpt.Model, prompt: str, way: str
) -> None:
    options: dict[str, Any] = {"max_new_tokens": 60, **WAYS[way]}
    plain = tiny.generate(prompt, **options)
    found = tiny.generate(prompt, prompt_lookup_num_tokens=7, **options)
    assert found.token_ids == plain.token_ids
    assert (found.text, found.finish_reason) == (plain.text, plain.finish_reason)
    if plain.logprobs is not None and found.logprobs is not None:
        assert [one.token_id for one in found.logprobs] == plain.token_ids
        for one, other in zip(found.logprobs, plain.logprobs, strict=True):
            assert one.logprob == pytest.approx(other.logprob, abs=1e-4)


@pytest.mark.usefixtures("always")
def test_guesses_that_come_true_save_passes(tiny: pocketgpt.Model) -> None:
    """A greedy text of random weights falls into a circle."""
    plain = tiny.stream(["a b a b"], max_new_tokens=80)
    fewer = tiny.stream(["a b a b"], max_new_tokens=80, prompt_lookup_num_tokens=8)
    texts = [*plain], [*fewer]
    assert "".join(piece for _, piece in texts[0]) == "".join(piece for _, piece in texts[1])
    assert fewer.result is not None
    timings = fewer.result[0].timings
    assert 0 < timings.accepted_tokens <= timings.guessed_tokens
    assert fewer.counters.steps + timings.accepted_tokens == plain.counters.steps
    assert fewer.counters.steps < plain.counters.steps


@pytest.mark.usefixtures("always")
def test_sessions_go_on_from_what_was_accepted(tiny: pocketgpt.Model) -> None:
    texts = []
    for most in (None, 5):
        session = tiny.session()
        session.append("a b a b a")
        session.generate(max_new_tokens=20, prompt_lookup_num_tokens=most)
        session.append(" b a b")
        session.generate(max_new_tokens=20, prompt_lookup_num_tokens=most)
        texts.append(session.token_ids)
    assert texts[0] == texts[1]


@pytest.mark.usefixtures("always")
@pytest.mark.parametrize("fails_at", range(2, 12))
def test_a_session_goes_on_from_its_own_tokens_after_a_processor_failed(
    tiny: pocketgpt.Model, fails_at: int
) -> None:
    """What was guessed beyond them is not in the cache any more."""
    calls = iter(range(1, 99))

    def fail(ids: NDArray[np.int64], logits: NDArray[np.float32]) -> NDArray[np.float32]:
        if next(calls) == fails_at:
            raise RuntimeError("mine")
        return logits

    session = tiny.session()
    session.append("a b a b a b a b")
    with pytest.raises(RuntimeError):
        session.generate(prompt_lookup_num_tokens=5, logits_processor=[fail])
    session.append(" and more of it")
    afresh = tiny.session()
    afresh.append(session.token_ids)
    plain = afresh.generate(max_new_tokens=9, logprobs=0).logprobs
    found = session.generate(max_new_tokens=9, logprobs=0).logprobs
    assert plain is not None
    assert found is not None
    for one, other in zip(found, plain, strict=True):
        assert one.token_id == other.token_id
        assert one.logprob == pytest.approx(other.logprob, abs=1e-4)


@pytest.mark.usefixtures("always")
def test_several_texts_are_decoded_together_as_ever(tiny: pocketgpt.Model) -> None:
    options: dict[str, Any] = {"max_new_tokens": 30, "batch_size": 3}
    prompts = list(PROMPTS)
    plain = tiny.generate(prompts, **options)
    found = tiny.generate(prompts, prompt_lookup_num_tokens=6, **options)
    assert [one.token_ids for one in found] == [one.token_ids for one in plain]


def test_beams_take_none(tiny: pocketgpt.Model) -> None:
    with pytest.raises(OptionError, match=r"prompt_lookup_num_tokens.*num_beams"):
        tiny.generate("a", num_beams=2, prompt_lookup_num_tokens=3)


def test_what_followed_the_newest_tokens_last_is_guessed() -> None:
    text = Speculation([1, 2, 3, 4, 5, 9, 1, 2, 3, 7, 8, 6, 1, 2, 3], most=4)
    text.stepped(1.0)
    assert text.guess(10) == [7, 8, 6, 1]
    assert text.guess(2) == [7, 8]
    assert text.guess(0) == []
    text.accept(4)
    assert text.guess(10) == [5, 9, 1, 2]  # behind 2, 3, 4: not the newest, but three tokens alike


def test_a_text_in_a_circle_is_guessed_to_stay_in_it() -> None:
    text = Speculation([5, 6, 7, 5, 6, 7, 5], most=4)
    text.stepped(1.0)
    assert text.guess(4) == [6, 7, 5, 6]


def test_nothing_is_guessed_without_a_match_or_a_step_to_compare_with() -> None:
    text = Speculation([1, 2, 1, 2, 1, 2], most=4)
    assert text.guess(4) == []
    text.stepped(1.0)
    assert text.guess(4) == [1, 2, 1, 2]
    text.accept(3)
    assert text.guess(4) == []


def test_longer_guesses_come_with_success_and_pauses_with_failure() -> None:
    text = Speculation([1, 2] * 20, most=16)
    text.stepped(1.0)
    assert len(text.guess(99)) == 4
    text.checked(4, 4, 1.2)
    assert len(text.guess(99)) == 8
    text.checked(8, 8, 1.4)
    assert len(text.guess(99)) == 16
    assert (text.guessed, text.accepted) == (12, 12)
    pauses = []
    for _ in range(6):
        while text.guess(99):  # what was saved before is used up first
            text.checked(16, 0, 4.0)
        steps = 0
        while not text.guess(99):
            text.stepped(1.0)
            steps += 1
        pauses.append(steps)
    assert pauses[0] == SHORTEST_PAUSE
    assert pauses[-1] == LONGEST_PAUSE
    assert pauses == sorted(pauses)
