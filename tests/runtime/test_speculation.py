"""Guesses by prompt lookup and by a draft: the tokens of plain decoding in fewer passes."""

from __future__ import annotations

import copy
import json
import pickle
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from numpy.typing import NDArray

import pocketgpt
from pocketgpt import OptionError
from pocketgpt.engine.ragged import FIRST_ONNXRUNTIME
from pocketgpt.folder.onnxruntime_version import is_onnxruntime
from pocketgpt.generation.guessing.pace import Pace
from pocketgpt.generation.guessing.worth import Worth

from .conftest import needs_query_lengths
from .test_quantized_batch import TOLERANCE, alone_logits

if TYPE_CHECKING:
    from ..conftest import Cli

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
# Whether several rows are guessed for in one pass; their texts are the same either way.
TOGETHER = is_onnxruntime(FIRST_ONNXRUNTIME)
GUESSERS: dict[str, dict[str, Any]] = {
    "lookup": {"prompt_lookup_num_tokens": 7},
    "draft": {"num_assistant_tokens": 7, "assistant_confidence_threshold": 0.05},
}
guessers = pytest.mark.parametrize("guesser", GUESSERS.values(), ids=GUESSERS)


@pytest.fixture
def always(monkeypatch: pytest.MonkeyPatch) -> None:
    """Guess wherever there is room, whether it pays or not: on a tiny model nothing does."""
    monkeypatch.setattr(Pace, "affordable", lambda pace, rows: rows in pace._steps)
    monkeypatch.setattr(Pace, "count", lambda pace, rooms, likely, drafted: max(rooms))
    monkeypatch.setattr(Worth, "admit", lambda worth, steps: True)


@pytest.fixture(scope="module")
def drafted(tiny_folder: Path, draft_folder: Path) -> pocketgpt.Model:
    """The fp32 variant of `tiny_folder` with a draft that is often right, and often not."""
    return pocketgpt.load(tiny_folder, "fp32", assistant=draft_folder)


def same(found: pocketgpt.GenerationResult, plain: pocketgpt.GenerationResult) -> None:
    """Assert that two texts are the same, but for how long they took."""
    assert found.token_ids == plain.token_ids
    assert (found.text, found.finish_reason) == (plain.text, plain.finish_reason)
    for one, other in zip(found.logprobs or [], plain.logprobs or [], strict=True):
        assert one.token_id == other.token_id
        assert one.logprob == pytest.approx(other.logprob, abs=1e-4)


def test_a_draft_that_cost_more_than_it_gained_is_left_out_for_some_texts(
    drafted: pocketgpt.Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Pace, "affordable", lambda pace, rows: rows in pace._steps)
    monkeypatch.setattr(Pace, "count", lambda pace, rooms, likely, drafted: max(rooms))
    monkeypatch.setattr(Pace, "in_steps", lambda pace, seconds, rows: 20.0)  # of a plain step
    drafted = copy.copy(drafted)  # what it was worth before is another's
    guessed = [drafted.generate("a b", max_new_tokens=40).timings.guessed_tokens for _ in range(4)]
    assert guessed[0] > 0
    assert guessed[1:] == [0, 0, 0]


@guessers
@pytest.mark.usefixtures("always")
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("prompt", PROMPTS)
def test_the_tokens_are_those_of_plain_decoding(
    tiny: pocketgpt.Model,
    drafted: pocketgpt.Model,
    prompt: str,
    way: str,
    guesser: dict[str, Any],
) -> None:
    options: dict[str, Any] = {"max_new_tokens": 60, **WAYS[way]}
    plain = tiny.generate(prompt, **options)
    same(drafted.generate(prompt, **guesser, **options), plain)


@guessers
@pytest.mark.usefixtures("always")
@pytest.mark.parametrize("way", WAYS)
def test_a_batchs_tokens_are_those_of_plain_decoding(
    tiny: pocketgpt.Model, drafted: pocketgpt.Model, way: str, guesser: dict[str, Any]
) -> None:
    """Rows come and go, have guesses or none, and accept as many as come true of theirs."""
    options: dict[str, Any] = {"max_new_tokens": 60, "batch_size": 4, **WAYS[way]}
    prompts = [prompt + more for more in ("", " and") for prompt in PROMPTS]
    plain = tiny.generate(prompts, **options)
    found = drafted.generate(prompts, **guesser, **options)
    for one, other in zip(found, plain, strict=True):
        same(one, other)
    if way in ("greedy", "drawn") and TOGETHER:
        assert sum(one.timings.accepted_tokens > 0 for one in found) > 2


@pytest.mark.usefixtures("always")
def test_texts_of_all_kinds_run_together(tiny: pocketgpt.Model, drafted: pocketgpt.Model) -> None:
    """Some look up, some have the draft, some no guesses at all."""
    kinds: list[dict[str, Any]] = [
        {"max_new_tokens": 30, **guesser, **WAYS[way]}
        for guesser in (*GUESSERS.values(), {"num_assistant_tokens": 0})
        for way in ("greedy", "drawn")
    ]
    found = drafted.generate([PROMPTS[0]] * len(kinds), options=kinds)
    for one, options in zip(found, kinds, strict=True):
        same(one, tiny.generate(PROMPTS[0], **options))
        if TOGETHER:
            assert (one.timings.guessed_tokens > 0) == (options.get("num_assistant_tokens") != 0)


@pytest.mark.usefixtures("always")
@pytest.mark.parametrize("count", [1, pytest.param(3, marks=needs_query_lengths)])
@guessers
def test_guesses_that_come_true_save_passes(
    drafted: pocketgpt.Model, guesser: dict[str, Any], count: int
) -> None:
    """A greedy text of random weights falls into a circle."""
    options: dict[str, Any] = {"max_new_tokens": 40}
    plain = drafted.stream(["a b a b"] * count, num_assistant_tokens=0, **options)
    fewer = drafted.stream(["a b a b"] * count, **guesser, **options)
    texts = sorted(plain, key=lambda one: one[0]), sorted(fewer, key=lambda one: one[0])
    assert "".join(piece for _, piece in texts[0]) == "".join(piece for _, piece in texts[1])
    assert fewer.result is not None
    timings = fewer.result[0].timings
    assert 0 < timings.accepted_tokens <= timings.guessed_tokens
    assert fewer.counters.steps + timings.accepted_tokens == plain.counters.steps


@pytest.mark.usefixtures("always")
def test_the_draft_reads_along_and_no_further_than_its_context(drafted: pocketgpt.Model) -> None:
    """Its own tokens are right again and again, until its 48 positions are full."""
    assert drafted.assistant is not None
    alone = drafted.assistant
    model = copy.copy(alone)
    model.assistant = alone
    text = model.generate("The keeper", max_length=48, num_assistant_tokens=5)
    assert text.timings.guessed_tokens == text.timings.accepted_tokens > 20
    longer = drafted.generate("The keeper", max_length=96, **GUESSERS["draft"])
    assert 0 < longer.timings.accepted_tokens <= 45


@guessers
@pytest.mark.usefixtures("always")
def test_sessions_go_on_from_what_was_accepted(
    drafted: pocketgpt.Model, guesser: dict[str, Any]
) -> None:
    texts = []
    for options in ({"num_assistant_tokens": 0}, guesser):
        session = drafted.session()
        session.append("a b a b a")
        session.generate(max_new_tokens=12, **options)
        session.rewind(5)
        session.append(" b a b")
        session.generate(max_new_tokens=12, **options)
        fork = session.fork()
        fork.append("x")
        fork.generate(max_new_tokens=12, **options)
        session.generate(max_new_tokens=12, do_sample=True, seed=1, **options)
        texts.append((session.token_ids, fork.token_ids))
    assert texts[0] == texts[1]


@pytest.mark.usefixtures("always")
def test_a_sessions_draft_reads_no_token_twice(drafted: pocketgpt.Model) -> None:
    session = drafted.session()
    session.append("The keeper counted")
    session.generate(max_new_tokens=10, **GUESSERS["draft"])
    assert session._draft is not None
    before = session._draft._decoder.evaluated_tokens
    session.append(" the")
    session.generate(max_new_tokens=2, **GUESSERS["draft"])
    assert session._draft._decoder.evaluated_tokens - before <= 10


@guessers
@pytest.mark.usefixtures("always")
@pytest.mark.parametrize("fails_at", range(2, 12))
def test_a_session_goes_on_from_its_own_tokens_after_a_processor_failed(
    drafted: pocketgpt.Model, fails_at: int, guesser: dict[str, Any]
) -> None:
    """What was guessed beyond them is not in the cache any more."""
    calls = iter(range(1, 99))

    def fail(ids: NDArray[np.int64], logits: NDArray[np.float32]) -> NDArray[np.float32]:
        if next(calls) == fails_at:
            raise RuntimeError("mine")
        return logits

    session = drafted.session()
    session.append("a b a b a b a b")
    with pytest.raises(RuntimeError):
        session.generate(logits_processor=[fail], **guesser)
    session.append(" and more of it")
    afresh = drafted.session()
    afresh.append(session.token_ids)
    plain = afresh.generate(max_new_tokens=9, logprobs=0, num_assistant_tokens=0).logprobs
    found = session.generate(max_new_tokens=9, logprobs=0, **guesser).logprobs
    assert plain is not None
    assert found is not None
    for one, other in zip(found, plain, strict=True):
        assert one.token_id == other.token_id
        assert one.logprob == pytest.approx(other.logprob, abs=1e-4)


@guessers
@pytest.mark.usefixtures("always")
def test_what_is_cancelled_is_the_beginning_of_the_text(
    drafted: pocketgpt.Model, guesser: dict[str, Any]
) -> None:
    plain = drafted.generate(["a b a b", "The"], max_new_tokens=40, num_assistant_tokens=0)
    stream = drafted.stream(["a b a b", "The"], max_new_tokens=40, **guesser)
    for number, _ in enumerate(stream):
        if number == 9:
            stream.cancel()
    assert stream.result is not None
    for found, whole in zip(stream.result, plain, strict=True):
        assert found.finish_reason == "cancelled"
        assert found.token_ids == whole.token_ids[: len(found.token_ids)]


@guessers
@pytest.mark.usefixtures("always")
@pytest.mark.parametrize("variant", ["int8", "q4"])
def test_quantized_logits_stay_within_the_tolerance(
    tiny_folder: Path, draft_folder: Path, variant: str, guesser: dict[str, Any]
) -> None:
    """A pass over several tokens rounds otherwise than one over one."""
    model = pocketgpt.load(tiny_folder, variant, assistant=draft_folder)
    prompts = list(PROMPTS)
    found = model.generate(prompts, max_new_tokens=30, **guesser)
    for prompt, text in zip(prompts, found, strict=True):
        logits = alone_logits(model, model.tokenizer.encode(prompt) or [0], text.token_ids)
        margins = logits.max(axis=-1) - logits[np.arange(len(logits)), text.token_ids]
        assert margins.max() <= 2 * TOLERANCE[variant] * float(logits.std())


@needs_query_lengths
def test_a_decoder_checks_rows_of_different_lengths(tiny: pocketgpt.Model) -> None:
    decoder = tiny.new_decoder(4)
    random = np.random.default_rng(0)
    texts = [random.integers(0, 400, length).tolist() for length in (5, 70, 90, 1)]
    chunks = [random.integers(0, 400, length).tolist() for length in (7, 1, 6, 3)]
    for slot, text in enumerate(texts):
        decoder.prefill(text, slot)
    found = decoder.check(chunks)
    assert decoder.lengths.tolist() == [12, 71, 96, 4]
    following = decoder.step([1, 2]).copy()
    for text, chunk, logits in zip(texts, chunks, found, strict=True):
        alone = tiny.new_decoder()
        alone.prefill(text)
        np.testing.assert_allclose(logits, alone.score(chunk), atol=2e-4)
    for slot in range(2):
        alone = tiny.new_decoder()
        alone.prefill([*texts[slot], *chunks[slot]])
        np.testing.assert_allclose(following[slot], alone.step(slot + 1)[0], atol=2e-4)


@pytest.mark.usefixtures("always")
def test_an_older_onnx_runtime_guesses_for_one_text_alone(
    tiny_folder: Path, draft_folder: Path, monkeypatch: pytest.MonkeyPatch, tiny: pocketgpt.Model
) -> None:
    monkeypatch.setattr("pocketgpt.engine.ragged.FIRST_ONNXRUNTIME", "99.0")
    model = pocketgpt.load(tiny_folder, "fp32", assistant=draft_folder)
    assert model.new_decoder().widest == 1
    prompts = list(PROMPTS)
    for guesser in GUESSERS.values():
        found = model.generate(prompts, max_new_tokens=30, **guesser)
        plain = tiny.generate(prompts, max_new_tokens=30)
        for one, other in zip(found, plain, strict=True):
            same(one, other)
        assert model.generate("a b a b", max_new_tokens=20, **guesser).timings.guessed_tokens


def test_beams_take_none(tiny: pocketgpt.Model, drafted: pocketgpt.Model) -> None:
    with pytest.raises(OptionError, match=r"prompt_lookup_num_tokens.*num_beams"):
        tiny.generate("a", num_beams=2, prompt_lookup_num_tokens=3)
    with pytest.raises(OptionError, match=r"assistant.*num_assistant_tokens=0"):
        drafted.generate("a", num_beams=2)
    plain = tiny.generate("a", num_beams=2, max_new_tokens=5)
    found = drafted.generate("a", num_beams=2, max_new_tokens=5, num_assistant_tokens=0)
    assert found.token_ids == plain.token_ids


@pytest.mark.usefixtures("always")
def test_beams_beside_them_stop_the_guesses(
    tiny: pocketgpt.Model, drafted: pocketgpt.Model
) -> None:
    own: list[dict[str, Any]] = [{"num_assistant_tokens": 5}, {"num_beams": 3}]
    own[1]["num_assistant_tokens"] = 0
    found = drafted.generate(["a b a b", "The"], options=own, max_new_tokens=12)
    plain = tiny.generate(["a b a b", "The"], options=own, max_new_tokens=12)
    assert [one.token_ids for one in found] == [one.token_ids for one in plain]


def test_another_vocabulary_is_refused(
    tiny_folder: Path, tiny_copy: Path, random_folder: Path, classifier_folder: Path
) -> None:
    with pytest.raises(OptionError, match=r"vocabulary of \d+ tokens.*same tokenizer"):
        pocketgpt.load(tiny_folder, assistant=random_folder)
    with pytest.raises(OptionError, match="classifier"):
        pocketgpt.load(tiny_folder, assistant=classifier_folder)
    path = tiny_copy / "tokenizer.json"
    tokenizer = json.loads(path.read_text("utf-8"))
    vocabulary = tokenizer["model"]["vocab"]
    vocabulary["x"], vocabulary["y"] = vocabulary["y"], vocabulary["x"]
    path.write_text(json.dumps(tokenizer), "utf-8")
    with pytest.raises(OptionError, match=r"other tokens.*same tokenizer"):
        pocketgpt.load(tiny_folder, assistant=tiny_copy)


def test_a_loaded_model_may_assist_and_copies_have_it(
    tiny: pocketgpt.Model, tiny_folder: Path
) -> None:
    model = pocketgpt.load(tiny_folder, "fp32", assistant=pocketgpt.load(tiny_folder, "int8"))
    twin = pickle.loads(pickle.dumps(model))
    assert twin.assistant.variant == "int8"
    found = twin.generate("a b a b", max_new_tokens=20)
    same(found, tiny.generate("a b a b", max_new_tokens=20))
    assert found.timings.guessed_tokens > 0


def test_the_command_line_takes_an_assistant(
    cli: Cli, tiny_folder: Path, draft_folder: Path, random_folder: Path
) -> None:
    words = ("generate", tiny_folder, "a b a b", "--variant", "fp32", "--max-new-tokens", 20)
    plain = cli(*words)
    found = cli(*words, "--assistant", draft_folder, "--num-assistant-tokens", 4)
    assert found == plain
    refused = cli(*words, "--assistant", random_folder)
    assert (refused.returncode, refused.stderr.count("\n")) == (2, 1)
    talk = ("chat", tiny_folder, "--variant", "fp32", "--max-new-tokens", 9)
    spoken = cli(*talk, stdin="hello\n")
    assert cli(*talk, "--assistant", draft_folder, stdin="hello\n") == spoken


# Draws among few tokens, so that texts repeat themselves, or such as the draft often guesses.
NARROW: dict[str, dict[str, Any]] = {
    "lookup": {"suppress_tokens": [*range(5), *range(8, 400)], "max_new_tokens": 8},
    "draft": {"top_k": 2, "max_new_tokens": 4},
}


@needs_query_lengths
@pytest.mark.usefixtures("always")
@pytest.mark.parametrize("name", GUESSERS)
def test_drawn_tokens_come_as_often_as_the_model_says(
    tiny: pocketgpt.Model, drafted: pocketgpt.Model, name: str
) -> None:
    """Chi-square over the last three tokens, of seeds of their own, with guesses and without."""
    options = {"do_sample": True, "temperature": 3.0, "batch_size": 50, **NARROW[name]}
    counts = []
    for model, first_seed, how in ((drafted, 0, GUESSERS[name]), (tiny, 9999, {})):
        own = [{"seed": first_seed + number} for number in range(1500)]
        texts = model.generate(["a b"] * len(own), options=own, **how, **options)
        counts.append(Counter(tuple(text.token_ids[-3:]) for text in texts))
        guessed, accepted = (
            sum(getattr(text.timings, name) for text in texts)
            for name in ("guessed_tokens", "accepted_tokens")
        )
        assert (0 < accepted < guessed) == bool(how)
    cells = np.array([[side[key] for side in counts] for key in {*counts[0], *counts[1]}])
    cells = cells[cells.sum(axis=1) >= 10]
    expected = cells.sum(axis=1, keepdims=True) / 2
    freedom = len(cells) - 1
    assert freedom >= 6
    # Both halves come from one distribution; one in a thousand or fewer lies beyond.
    assert ((cells - expected) ** 2 / expected).sum() < freedom + 4.5 * np.sqrt(2 * freedom)
