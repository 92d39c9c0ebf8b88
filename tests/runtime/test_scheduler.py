"""The scheduler: slots that refill, prompts computed once, chunks between steps, and beams."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import pocketgpt
from pocketgpt import InferenceError
from pocketgpt.engine import fused, ort_session
from pocketgpt.engine.decoder import Decoder
from pocketgpt.generation import scheduler as scheduling
from pocketgpt.generation.request import Request
from pocketgpt.generation.scheduler import Scheduler
from pocketgpt.generation.sequence import TokenSequence

Call = tuple[str, int]  # a decoder's method, and the tokens that went through it


class Spy:
    """A decoder that notes every pass: its kind, and its tokens, padding included."""

    def __init__(self, decoder: Decoder) -> None:
        self._decoder = decoder
        self.calls: list[Call] = []
        self.passes: list[tuple[str, int, int]] = []  # and how many rows ran then
        self.running: Callable[[], int] = int

    def __getattr__(self, name: str) -> Any:
        return getattr(self._decoder, name)

    def step(self, token_ids: list[int]) -> Any:
        self._note("step", len(token_ids))
        return self._decoder.step(token_ids)

    def append(self, token_ids: list[int], slot: int = 0) -> Any:
        self._note("append", len(token_ids))
        return self._decoder.append(token_ids, slot)

    def feed(self, token_ids: list[int], slot: int = 0) -> None:
        self._note("append", len(token_ids))
        self._decoder.feed(token_ids, slot)

    def fill(self, prompts: list[list[int]], first: int = 0) -> Any:
        self._note("fill", len(prompts) * max(map(len, prompts)))
        return self._decoder.fill(prompts, first)

    def _note(self, kind: str, tokens: int) -> None:
        self.calls.append((kind, tokens))
        self.passes.append((kind, tokens, self.running()))

    def copy_slot(self, source: int, target: int, start: int = 0, end: int | None = None) -> None:
        self.calls.append(("copy", source))
        self._decoder.copy_slot(source, target, start, end)


def random_ids(count: int, seed: int = 0) -> list[int]:
    ids: list[int] = np.random.default_rng(seed).integers(1, 100, count).tolist()
    return ids


def texts(model: pocketgpt.Model, prompts: list[list[int]], **options: Any) -> list[TokenSequence]:
    """Texts to make of prompts."""
    resolved = model.resolve({"eos_token_id": [], **options})
    requests = [Request(ids, resolved) for ids in prompts]
    n_positions = model.config.n_positions
    return [t for r in requests for t in r.texts(model.tokenizer, model.vocabulary, n_positions, 0)]


def run(scheduler: Scheduler, jobs: list[TokenSequence]) -> list[list[int]]:
    for job in jobs:
        scheduler.submit(job)
    for _ in scheduler.run(bool):
        pass
    return [job.token_ids for job in jobs]


def alone(model: pocketgpt.Model, prompts: list[list[int]], **options: Any) -> list[list[int]]:
    """The same texts, each by itself, in a scheduler of one slot."""
    made = []
    for prompt in prompts:
        scheduler = Scheduler(model.new_decoder(), model.config.n_positions)
        made += run(scheduler, texts(model, [prompt], **options))
    return made


def test_a_slot_is_never_idle_while_prompts_wait(model: pocketgpt.Model) -> None:
    random = np.random.default_rng(1)
    prompts = [random_ids(int(random.integers(1, 30)), seed) for seed in range(40)]
    lengths = random.integers(1, 30, 40).tolist()
    jobs = [
        text
        for prompt, length in zip(prompts, lengths, strict=True)
        for text in texts(model, [prompt], max_new_tokens=length)
    ]
    spy = Spy(model.new_decoder(5))
    scheduler = Scheduler(spy, model.config.n_positions)  # type: ignore[arg-type]
    made = run(scheduler, jobs)
    counters = scheduler.counters
    assert counters.idle == 0
    assert [len(ids) for ids in made] == lengths
    assert counters.rows == sum(lengths) - 40  # a text's first token comes with its prompt
    assert counters.steps < counters.rows / 4  # nearly five rows a step
    for ids, prompt, length in zip(made, prompts, lengths, strict=True):
        assert ids == alone(model, [prompt], max_new_tokens=length)[0]


def test_a_row_that_ends_costs_one_copied_row(model: pocketgpt.Model) -> None:
    spy = Spy(model.new_decoder(4))
    scheduler = Scheduler(spy, model.config.n_positions)  # type: ignore[arg-type]
    prompts = [random_ids(4, seed) for seed in range(4)]
    jobs = [
        text
        for prompt, length in zip(prompts, (2, 9, 9, 9), strict=True)
        for text in texts(model, [prompt], max_new_tokens=length)
    ]
    run(scheduler, jobs)
    copies = [call for call in spy.calls if call[0] == "copy"]
    assert copies == [("copy", 3)]  # the last one into the hole; those that end last leave none


@pytest.mark.parametrize("length", [1, 7, 20])
def test_one_prompts_texts_compute_it_once(model: pocketgpt.Model, length: int) -> None:
    prompt = random_ids(length)
    options: dict[str, Any] = {"do_sample": True, "seed": 3, "max_new_tokens": 6}
    decoder = model.new_decoder(4)
    scheduler = Scheduler(decoder, model.config.n_positions)
    made = run(scheduler, texts(model, [prompt], num_return_sequences=4, **options))
    assert decoder.evaluated_tokens == length + 4 * 5
    assert made[0] == alone(model, [prompt], **options)[0]
    assert len(set(map(tuple, made))) > 1


def test_shared_beginnings_are_computed_once(model: pocketgpt.Model) -> None:
    beginning = random_ids(24)
    prompts = [[*beginning, *random_ids(count, count)] for count in (3, 5, 1, 8)]
    decoder = model.new_decoder(4)
    scheduler = Scheduler(decoder, model.config.n_positions)
    jobs = texts(model, prompts, max_new_tokens=5)
    made = run(scheduler, jobs)
    assert decoder.evaluated_tokens == 24 + (3 + 5 + 1 + 8) + 4 * 4
    assert sorted(job.reused_tokens for job in jobs) == [0, 24, 24, 24]
    assert made == alone(model, prompts, max_new_tokens=5)


def test_no_row_waits_longer_than_one_chunk(
    model: pocketgpt.Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pocketgpt.engine.decoder.PREFILL_CHUNK", 8)
    monkeypatch.setattr(scheduling, "CHUNKS_TOGETHER", 2)
    random = np.random.default_rng(2)
    prompts = [random_ids(int(random.integers(1, 40)), seed) for seed in range(24)]
    spy = Spy(model.new_decoder(4))
    scheduler = Scheduler(spy, model.config.n_positions)  # type: ignore[arg-type]
    spy.running = lambda: len(scheduler._table.running)
    made = run(scheduler, texts(model, prompts, max_new_tokens=8))
    waits = []
    for kind, tokens, running in spy.passes:
        if kind == "step" or not running:
            waits.append(0)
        else:
            waits[-1] += tokens
    assert 1 < max(waits) <= 8
    assert made == alone(model, prompts, max_new_tokens=8)


@pytest.mark.parametrize("seed", range(6))
def test_any_mixture_equals_each_alone(model: pocketgpt.Model, seed: int) -> None:
    """Greedy, drawn, constrained, overflowing rows and beam searches in few slots."""
    random = np.random.default_rng(seed)
    kinds: list[dict[str, Any]] = [
        {},
        {"do_sample": True, "seed": seed, "temperature": 1.5},
        {"do_sample": True, "seed": seed, "num_return_sequences": 3, "top_p": 0.9},
        {"num_beams": 3, "num_return_sequences": 2},
        {"num_beams": 2, "do_sample": True, "seed": seed},
        {"repetition_penalty": 1.4, "no_repeat_ngram_size": 2},
        {"context_overflow": "reprefill", "keep": 2, "max_new_tokens": 70, "eos_token_id": []},
    ]
    shared = "The quick brown fox jumps over the lazy dog and runs home"
    prompts, own = [], []
    for _ in range(14):
        length = int(random.integers(1, len(shared)))
        prompts.append(shared[:length] if random.random() < 0.5 else shared[-length:])
        own.append(
            {"max_new_tokens": int(random.integers(1, 20)), **kinds[random.integers(len(kinds))]}
        )
    together = model.generate(prompts, options=own, batch_size=int(random.integers(1, 7)))
    expected: list[Any] = []
    for prompt, options in zip(prompts, own, strict=True):
        made: Any = model.generate(prompt, **options)
        expected += made if isinstance(made, list) else [made]
    assert [r.token_ids for r in together] == [r.token_ids for r in expected]
    assert [r.text for r in together] == [r.text for r in expected]
    assert [r.finish_reason for r in together] == [r.finish_reason for r in expected]
    assert [r.reprefills for r in together] == [r.reprefills for r in expected]


def test_a_reprefill_can_be_cancelled_between_chunks(
    model: pocketgpt.Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pocketgpt.engine.decoder.PREFILL_CHUNK", 4)
    (job,) = texts(model, [random_ids(60)], context_overflow="reprefill", max_new_tokens=200)
    spy = Spy(model.new_decoder())
    scheduler = Scheduler(spy, model.config.n_positions)  # type: ignore[arg-type]
    scheduler.submit(job)
    for _ in scheduler.run(lambda: job.reprefills == 1):
        pass
    assert job.finish_reason == "cancelled"
    assert spy.calls[-2][0] == "step"  # the reprefill's first chunk, and no more
    assert spy.calls[-1] == ("append", 4)


def test_beams_and_rows_tell_the_time_truly(model: pocketgpt.Model) -> None:
    results: Any = model.generate("A dog", num_beams=4, num_return_sequences=4, max_new_tokens=20)
    results.append(model.generate("A dog", max_new_tokens=20, eos_token_id=[]))
    for result in results:
        timings = result.timings
        assert timings.time_to_first_token > 0
        assert timings.decode_seconds >= timings.engine_seconds > 0


@pytest.mark.parametrize("failing", [1, 2, 4])
def test_a_pass_that_fails_changes_nothing(
    model: pocketgpt.Model, monkeypatch: pytest.MonkeyPatch, failing: int
) -> None:
    """After it a session goes on as if nothing had happened: as one that was not interrupted."""
    session, other = model.session(), model.session()
    for one in (session, other):
        one.append("A naïve café")
        one.generate(max_new_tokens=3, eos_token_id=[])
        one.append(" and a dog")
    original, calls = ort_session.run_bound, itertools.count(1)

    def run_bound(*arguments: Any) -> None:
        if next(calls) == failing:
            raise InferenceError("the device is gone")
        original(*arguments)

    before = len(session.token_ids)
    monkeypatch.setattr(fused, "run_bound", run_bound)
    with pytest.raises(InferenceError, match="device is gone"):
        session.generate(max_new_tokens=9, eos_token_id=[])
    made = len(session.token_ids) - before
    assert made == failing - 1
    session.generate(max_new_tokens=5, eos_token_id=[])
    other.generate(max_new_tokens=made + 5, eos_token_id=[])
    assert session.token_ids == other.token_ids


def test_two_alternating_prompts_are_both_kept(random_folder: Path) -> None:
    model = pocketgpt.load(random_folder, "fp32", prefix_cache_bytes=1 << 24)
    first, second = "The quick brown fox jumps", "The lazy dog runs home again"
    for _ in range(2):
        for prompt in (first, second):
            result = model.generate(prompt, max_new_tokens=3, eos_token_id=[])
    assert result.timings.reused_tokens == len(model.tokenizer.encode(second)) - 1


@pytest.mark.parametrize("options", [{}, {"do_sample": True}, {"num_beams": 2}], ids=str)
def test_logits_that_are_no_numbers_are_one_line(
    model: pocketgpt.Model, monkeypatch: pytest.MonkeyPatch, options: dict[str, Any]
) -> None:
    original = Decoder.append

    def append(self: Decoder, token_ids: list[int], slot: int = 0) -> Any:
        logits = original(self, token_ids, slot).copy()
        logits[:] = np.nan
        return logits

    monkeypatch.setattr(Decoder, "append", append)
    with pytest.raises(InferenceError, match=r"logits are no numbers.*pocketgpt verify"):
        model.generate("A dog", **options)


def test_more_rows_than_memory_holds_are_one_line(model: pocketgpt.Model) -> None:
    with pytest.raises(InferenceError, match="decode fewer at once"):
        model.generate("A", num_beams=10**12, max_new_tokens=2)


def test_the_prefix_cache_serves_every_slot(random_folder: Path) -> None:
    model = pocketgpt.load(random_folder, "fp32", prefix_cache_bytes=1 << 24)
    plain = pocketgpt.load(random_folder, "fp32")
    prompts = ["The quick brown fox", "A naïve café", "The lazy dog runs"]
    model.generate(prompts, max_new_tokens=3, eos_token_id=[])
    again = [f"{prompt} jumps over" for prompt in reversed(prompts)]
    results = model.generate(again, max_new_tokens=5, eos_token_id=[], batch_size=2)
    expected = plain.generate(again, max_new_tokens=5, eos_token_id=[])
    for result, other, prompt in zip(results, expected, reversed(prompts), strict=True):
        assert result.token_ids == other.token_ids
        assert result.timings.reused_tokens >= len(model.tokenizer.encode(prompt)) - 1
