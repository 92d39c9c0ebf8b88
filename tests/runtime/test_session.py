"""Sessions: nothing is computed twice, and what is saved goes on as if it had never stopped."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import pocketgpt
from pocketgpt import OptionError, SessionError

OPTIONS: dict[str, Any] = {"max_new_tokens": 6, "eos_token_id": []}


def test_appending_computes_only_what_is_new(model: pocketgpt.Model) -> None:
    session = model.session()
    session.append("The quick")
    prompt = len(session.token_ids)
    first = session.generate(**OPTIONS)
    assert session.evaluated_tokens == prompt + 5  # the last token waits for what follows it
    session.append(" fox jumps")
    second = session.generate(**OPTIONS)
    assert session.evaluated_tokens == len(session.token_ids) - 1
    assert second.timings.reused_tokens == prompt + 5
    appended = model.tokenizer.encode(" fox jumps")
    whole = [*model.tokenizer.encode("The quick"), *first.token_ids, *appended]
    assert session.token_ids == [*whole, *second.token_ids]
    fresh = model.session()
    fresh.append(whole)
    assert fresh.generate(**OPTIONS).token_ids == second.token_ids


def test_generating_again_goes_on(model: pocketgpt.Model) -> None:
    session = model.session()
    session.append("A dog")
    halves = session.generate(**OPTIONS).token_ids + session.generate(**OPTIONS).token_ids
    assert halves == model.generate("A dog", max_new_tokens=12, eos_token_id=[]).token_ids
    assert session.text == model.tokenizer.decode(session.token_ids)


def test_rewinding_is_a_fresh_start_from_there(model: pocketgpt.Model) -> None:
    random = np.random.default_rng(2)
    session = model.session()
    session.append("The quick brown")
    for _ in range(12):
        session.generate(max_new_tokens=int(random.integers(1, 9)), eos_token_id=[])
        before = session.evaluated_tokens
        session.rewind(int(random.integers(0, min(len(session.token_ids), 9))))
        fresh = model.session()
        fresh.append(session.token_ids)
        expected = fresh.generate(max_new_tokens=3, eos_token_id=[]).token_ids
        assert session.generate(max_new_tokens=3, eos_token_id=[]).token_ids == expected
        assert session.evaluated_tokens == before + 3
    session.rewind(len(session.token_ids))
    assert session.token_ids == []
    with pytest.raises(OptionError, match="rewind takes 0 to 0 tokens"):
        session.rewind(1)


def test_a_fork_goes_its_own_way(model: pocketgpt.Model) -> None:
    session = model.session()
    session.append("The quick")
    session.generate(**OPTIONS)
    fork = session.fork()
    session.append(" dog")
    fork.append(" fox")
    after = [one.generate(**OPTIONS).token_ids for one in (session, fork)]
    for one, made in zip((session, fork), after, strict=True):
        fresh = model.session()
        fresh.append(one.token_ids[:-6])
        assert fresh.generate(**OPTIONS).token_ids == made
    assert fork.evaluated_tokens == 1 + len(model.tokenizer.encode(" fox")) + 5


def test_a_restored_session_goes_on_as_if_never_stopped(
    model: pocketgpt.Model, tmp_path: Path
) -> None:
    session = model.session()
    session.append("The quick")
    session.generate(**OPTIONS)
    session.append(" dog")
    session.save(tmp_path / "saved")
    restored = model.restore(tmp_path / "saved")
    assert restored.token_ids == session.token_ids
    sampled = {**OPTIONS, "do_sample": True, "seed": 8, "temperature": 1.5}
    assert restored.generate(**sampled).token_ids == session.generate(**sampled).token_ids
    assert restored.evaluated_tokens == 1 + len(model.tokenizer.encode(" dog")) + 5
    assert [path.name for path in tmp_path.iterdir()] == ["saved"]
    model.session().save(tmp_path / "saved")
    assert model.restore(tmp_path / "saved").token_ids == []


def test_what_cannot_be_restored_is_refused(
    model: pocketgpt.Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = model.session()
    session.append("The quick")
    path = tmp_path / "saved"
    session.save(path)
    whole = path.read_bytes()
    path.write_bytes(whole[:-10])
    with pytest.raises(SessionError, match="cannot be read"):
        model.restore(path)
    with pytest.raises(SessionError, match="cannot be read"):
        model.restore(tmp_path / "missing")
    path.write_bytes(whole.replace(b"pocketgpt-session-1", b"pocketgpt-session-2"))
    with pytest.raises(SessionError, match="not a session"):
        model.restore(path)
    path.write_bytes(whole)
    monkeypatch.setattr(type(model), "identity", "another")
    with pytest.raises(SessionError, match="another model or variant"):
        model.restore(path)


def test_a_session_belongs_to_its_variant(tiny_folder: Path, tmp_path: Path) -> None:
    session = pocketgpt.load(tiny_folder, "int8").session()
    session.append("The ships")
    session.save(tmp_path / "saved")
    assert pocketgpt.load(tiny_folder, "int8").restore(tmp_path / "saved").token_ids
    with pytest.raises(SessionError, match="another model or variant than q4; load that one"):
        pocketgpt.load(tiny_folder, "q4").restore(tmp_path / "saved")


def test_a_stream_left_early_keeps_what_it_made(model: pocketgpt.Model) -> None:
    session = model.session()
    session.append("The quick")
    stream = session.stream(max_new_tokens=20, eos_token_id=[])
    next(stream)
    session.append(" fox")
    made = stream.result
    assert made is not None
    assert made.finish_reason == "cancelled"
    parts = [model.tokenizer.encode(part) for part in ("The quick", " fox")]
    assert session.token_ids == [*parts[0], *made.token_ids, *parts[1]]


def test_what_a_session_cannot_do_is_refused(model: pocketgpt.Model) -> None:
    session = model.session()
    session.append("A")
    several: list[dict[str, Any]] = [
        {"num_beams": 2},
        {"do_sample": True, "num_return_sequences": 2},
    ]
    for options in several:
        with pytest.raises(OptionError, match="a session has one text"):
            session.generate(**options)
    with pytest.raises(OptionError, match="keeps it whole"):
        session.generate(context_overflow="reprefill")
    with pytest.raises(OptionError, match="context is 64"):
        session.append([7] * 64)
    with pytest.raises(OptionError, match="outside the vocabulary"):
        session.append([100_000])
    assert len(session.token_ids) == 1
    session.append([7] * 63)
    full = session.generate()
    assert (full.token_ids, full.finish_reason) == ([], "length")


def test_an_empty_session_starts_from_bos(model: pocketgpt.Model) -> None:
    assert model.session().generate(**OPTIONS).token_ids == (
        model.generate("", **OPTIONS).token_ids
    )


def test_a_shared_prefix_is_computed_once_within_bounds(random_folder: Path) -> None:
    token = 2 * 2 * 64 * 4  # layers, sides, width, bytes
    limit = 80 * token  # two or three of the texts below, at least one of each kind
    model = pocketgpt.load(random_folder, "fp32", prefix_cache_bytes=limit)
    plain = pocketgpt.load(random_folder, "fp32")
    head = "The quick brown fox jumps over"
    shared = len(model.tokenizer.encode(head))
    for number, tail in enumerate((" the", " a lazy dog", " the lazy", " the")):
        found, expected = (m.generate(head + tail, **OPTIONS) for m in (model, plain))
        assert found.token_ids == expected.token_ids
        assert expected.timings.reused_tokens == 0
        assert 0 < model.prefixes.bytes <= limit
        assert found.timings.reused_tokens >= (shared if number else 0)
    assert found.timings.reused_tokens == len(model.tokenizer.encode(head + " the")) - 1
    for prompt in ("dog " * 9, "naïve " * 9, "café " * 9):
        model.generate(prompt, **OPTIONS)
    assert model.prefixes.bytes <= limit
    assert model.generate(head, **OPTIONS).timings.reused_tokens == 0  # the oldest went first
    assert plain.prefixes.bytes == 0
