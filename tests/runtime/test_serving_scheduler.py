"""What a server asks of the scheduler: jobs that leave, that fail alone, take turns, are scored."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import pocketgpt
from pocketgpt import InferenceError, OptionError
from pocketgpt.engine.decoder import Decoder
from pocketgpt.generation import prefix_cache
from pocketgpt.generation.request import Request, jobs_of
from pocketgpt.generation.scheduler import SCORED_CHUNK, AnyJob, Scheduler
from pocketgpt.generation.sequence import TokenSequence

from .test_scheduler import Spy, alone, random_ids, run, texts

KINDS: list[dict[str, Any]] = [
    {},
    {"do_sample": True, "seed": 5, "temperature": 1.5},
    {"num_beams": 3, "num_return_sequences": 2},
    {"repetition_penalty": 1.4, "no_repeat_ngram_size": 2},
    {"context_overflow": "reprefill", "keep": 2, "max_new_tokens": 70, "eos_token_id": []},
    {"prompt_lookup_num_tokens": 3},
]


def jobs(
    model: pocketgpt.Model, prompt: list[int], *, score_prompt: bool = False, **options: Any
) -> tuple[list[TokenSequence], list[AnyJob]]:
    request = Request(prompt, model.resolve(options), score_prompt=score_prompt)
    n_positions = model.config.n_positions
    made, found = jobs_of([request], model.tokenizer, model.vocabulary, n_positions)
    return made, [*found]


@pytest.mark.parametrize("seed", range(8))
def test_jobs_that_are_dropped_anywhere_leave_the_others_as_they_are(
    model: pocketgpt.Model, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Waiting, filling, led by another or running, one row or several: all others are exact."""
    monkeypatch.setattr("pocketgpt.engine.decoder.PREFILL_CHUNK", 6)
    random = np.random.default_rng(seed)
    scheduler = model.scheduler(5)
    beginning, kept, waiting = random_ids(20), [], []
    for number in range(26):
        shared = beginning[: int(random.integers(0, 20))]
        prompt = [*shared, *random_ids(int(random.integers(1, 20)), number)]
        options = {"max_new_tokens": int(random.integers(1, 16)), **KINDS[random.integers(6)]}
        made, found = jobs(model, prompt, **options)
        waiting.append((made, found[0], prompt, options))
    going = []
    while waiting or scheduler.busy:
        while waiting and random.random() < 0.5:
            going.append(waiting.pop())
            scheduler.submit(going[-1][1])
        scheduler.round()
        if going and random.random() < 0.3:
            made, job, prompt, options = going.pop(int(random.integers(len(going))))
            ended = job.finish_reason
            scheduler.drop(job)
            assert job.finish_reason == (ended or "cancelled")
            if ended:
                kept.append((made, prompt, options))
    kept += [(made, prompt, options) for made, _, prompt, options in going]
    assert scheduler.room == 5
    assert len(kept) > 3
    for made, prompt, options in kept:
        expected, again = jobs(model, prompt, **options)
        single = model.scheduler(again[0].width)
        single.submit(again[0])
        for _ in single.run(bool):
            pass
        assert [text.token_ids for text in made] == [text.token_ids for text in expected]


@pytest.mark.parametrize("state", ["waiting", "filling", "running"])
def test_a_dropped_jobs_slot_is_free_at_once(
    model: pocketgpt.Model, monkeypatch: pytest.MonkeyPatch, state: str
) -> None:
    monkeypatch.setattr("pocketgpt.engine.decoder.PREFILL_CHUNK", 4)
    scheduler = model.scheduler(1)
    (job,) = texts(model, [random_ids(10)], max_new_tokens=20)
    scheduler.submit(job)
    for _ in range({"waiting": 0, "filling": 1, "running": 5}[state]):
        scheduler.round()
    assert (scheduler.running, bool(job.token_ids)) == (state == "running", state == "running")
    before = job.text
    pieces = scheduler.drop(job)
    assert before + "".join(piece for _, piece in pieces) == job.text
    assert job.finish_reason == "cancelled"
    assert (scheduler.room, scheduler.busy) == (1, False)
    scheduler.drop(job)  # twice does no harm
    assert run(scheduler, texts(model, [random_ids(9)], max_new_tokens=5)) == alone(
        model, [random_ids(9)], max_new_tokens=5
    )


def test_those_who_waited_for_a_dropped_ones_prompt_compute_the_rest(
    model: pocketgpt.Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pocketgpt.engine.decoder.PREFILL_CHUNK", 8)
    decoder = model.new_decoder(3)
    scheduler = Scheduler(decoder, model.config.n_positions, min_shared=4)
    leader, *others = texts(model, [random_ids(30)] * 3, max_new_tokens=4)
    for job in (leader, *others):
        scheduler.submit(job)
    scheduler.round()  # the first chunk of the first one
    scheduler.drop(leader)
    for _ in scheduler.run(bool):
        pass
    assert [job.token_ids for job in others] == alone(model, [random_ids(30)] * 2, max_new_tokens=4)
    assert decoder.evaluated_tokens == 30 + 2 * 3  # nothing twice


def test_a_job_whose_options_cannot_be_followed_fails_alone(model: pocketgpt.Model) -> None:
    prompts = [random_ids(5, seed) for seed in range(4)]
    draws: dict[str, Any] = {"do_sample": True, "seed": 1, "max_new_tokens": 8}
    good = texts(model, prompts[:3], **draws)
    everything = list(range(model.config.n_logits))
    (bad,) = texts(model, prompts[3:], suppress_tokens=everything, max_new_tokens=8)
    _, (search,) = jobs(model, prompts[3], suppress_tokens=everything, num_beams=2)
    scheduler = model.scheduler(6, isolate=True)
    scheduler.submit(search)
    made = run(scheduler, [good[0], bad, *good[1:]])
    assert [made[0], *made[2:]] == alone(model, prompts[:3], **draws)
    assert {job for job, _ in scheduler.failed} == {bad, search}
    assert all("rule out every token" in str(error) for _, error in scheduler.failed)
    assert scheduler.room == 6
    with pytest.raises(OptionError, match="rule out every token"):
        run(model.scheduler(2), texts(model, prompts, suppress_tokens=everything))


def test_a_row_of_no_numbers_fails_alone(
    model: pocketgpt.Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = Decoder.step

    def step(self: Decoder, token_ids: Any) -> Any:
        logits = original(self, token_ids).copy()
        if len(logits) == 2:
            logits[1] = np.nan
        return logits

    monkeypatch.setattr(Decoder, "step", step)
    first, second = texts(model, [random_ids(5), random_ids(5, 1)], max_new_tokens=6)
    scheduler = model.scheduler(2, isolate=True)
    run(scheduler, [first, second])
    assert first.token_ids == alone(model, [random_ids(5)], max_new_tokens=6)[0]
    ((job, error),) = scheduler.failed
    assert (job, type(error)) == (second, InferenceError)


def test_a_short_prompt_waits_for_one_chunk_of_each_long_one(
    model: pocketgpt.Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pocketgpt.engine.decoder.PREFILL_CHUNK", 4)
    spy = Spy(model.new_decoder(4))
    scheduler = Scheduler(spy, model.config.n_positions)  # type: ignore[arg-type]
    long = texts(model, [random_ids(50, seed) for seed in range(2)], max_new_tokens=2)
    (short,) = texts(model, [random_ids(3, 7)], max_new_tokens=2)
    for job in long:
        scheduler.submit(job)
    for _ in range(3):
        scheduler.round()
    scheduler.submit(short)
    rounds = 0
    while not short.token_ids:
        scheduler.round()
        rounds += 1
    assert rounds <= 3
    assert not any(job.token_ids for job in long)
    for _ in scheduler.run(bool):
        pass
    prompts = [random_ids(50, 0), random_ids(50, 1), random_ids(3, 7)]
    expected = alone(model, prompts, max_new_tokens=2)
    assert [job.token_ids for job in (*long, short)] == expected


@pytest.mark.parametrize("length", [1, 2, 30, 64])
@pytest.mark.parametrize("beside", [0, 2])
def test_a_scored_prompt_has_the_log_probabilities_of_score(
    model: pocketgpt.Model, length: int, beside: int
) -> None:
    prompt = random_ids(length, 3)
    options = {"max_new_tokens": 3, "logprobs": 2, "eos_token_id": []}
    (text,), found = jobs(model, prompt, score_prompt=True, **options)
    others = texts(model, [prompt[:20] or prompt] * beside, max_new_tokens=30)
    scheduler = model.scheduler(3)
    for job in (*others, *found):
        scheduler.submit(job)
    for _ in scheduler.run(bool):
        pass
    assert text.prompt_logprobs is not None
    assert text.finish_reason == "length"
    assert [entry.token_id for entry in text.prompt_logprobs] == prompt[1:]
    assert len(text.token_ids) == min(3, model.config.n_positions - length)
    if length > 1:
        decoder = model.new_decoder()
        rows = decoder.score(prompt)[:-1].astype(np.float64)
        rows -= rows.max(axis=-1, keepdims=True)
        expected = rows - np.log(np.exp(rows).sum(axis=-1, keepdims=True))
        found_ones = [entry.logprob for entry in text.prompt_logprobs]
        np.testing.assert_allclose(
            found_ones, expected[np.arange(length - 1), prompt[1:]], rtol=0, atol=2e-5
        )
        assert [i for i, _ in text.prompt_logprobs[-1].top] == np.argsort(-expected[-1])[
            :2
        ].tolist()
    if length < model.config.n_positions:
        assert text.token_ids == alone(model, [prompt], max_new_tokens=3)[0]


def test_a_scored_prompt_is_computed_in_small_chunks_beside_others(
    model: pocketgpt.Model,
) -> None:
    class Scoring(Spy):
        def score(self, token_ids: list[int], slot: int = 0) -> Any:
            scored.append(len(token_ids))
            return self._decoder.score(token_ids, slot)

    scored: list[int] = []
    spy = Scoring(model.new_decoder(2))
    scheduler = Scheduler(spy, model.config.n_positions)  # type: ignore[arg-type]
    (other,) = texts(model, [random_ids(4)], max_new_tokens=40)
    scheduler.submit(other)
    scheduler.round()
    _, found = jobs(model, random_ids(60), score_prompt=True, max_new_tokens=1)
    scheduler.submit(found[0])
    for _ in scheduler.run(bool):
        pass
    assert sum(scored) == 60
    assert max(scored) <= SCORED_CHUNK


def test_texts_tell_how_long_they_waited_for_a_slot(model: pocketgpt.Model) -> None:
    first, second = texts(model, [random_ids(5), random_ids(5, 1)], max_new_tokens=20)
    run(model.scheduler(1), [first, second])
    waited = [text.result().timings for text in (first, second)]
    assert 0 <= waited[0].waiting_seconds < waited[1].waiting_seconds
    assert waited[1].waiting_seconds < waited[1].time_to_first_token


def test_a_search_gets_slots_in_any_order(model: pocketgpt.Model) -> None:
    """Its own slots may be the ones that its rows are moved to."""
    scheduler = model.scheduler(4)
    _, (search,) = jobs(model, random_ids(6), num_beams=2, max_new_tokens=6)
    scheduler.submit(search)
    scheduler._admit()
    (seat,) = scheduler._table.filling
    seat.slots = [3, 0]  # as others that begin before it may leave it
    scheduler._table._free = {1, 2}
    while scheduler.busy:
        scheduler.round()
    expected, again = jobs(model, random_ids(6), num_beams=2, max_new_tokens=6)
    single = model.scheduler(2)
    single.submit(again[0])
    for _ in single.run(bool):
        pass
    assert isinstance(search, type(again[0]))
    assert search.texts[0].token_ids == expected[0].token_ids  # type: ignore[union-attr]
    assert scheduler.room == 4


def test_a_prefix_cache_keeps_so_many_texts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prefix_cache, "MOST_KEPT", 3)
    cache = prefix_cache.PrefixCache(1 << 20)
    for first in range(5):
        ids = np.array([first, 7], np.int64)
        cache.put(None, ids, lambda: (np.zeros((1, 1, 2, 1)), np.zeros((1, 1, 2, 1))))
    assert cache.longest(None, np.array([1, 7], np.int64)) is not None
    found = [cache.longest(None, np.array([first, 7], np.int64)) for first in range(5)]
    assert [each and each[0] for each in found] == [0, 0, 2, 2, 2]
