"""Scoring files: as the text they hold, however little of it is in memory."""

from __future__ import annotations

import io
import os
import threading
from functools import partial
from pathlib import Path

import numpy as np
import pytest

import pocketgpt
from pocketgpt import OptionError
from pocketgpt.measure import score_file
from pocketgpt.text.encode_stream import encode_stream


def write_text(path: Path, characters: int) -> str:
    """Words, gaps of all kinds and characters of several bytes."""
    random = np.random.default_rng(characters)
    pieces = ["fox", "naïve", "灯台", " ", "  ", "\n", "\r\n", "\t", " the", "42", "!?", " "]
    text = "".join(random.choice(pieces, characters))
    path.write_bytes(text.encode())
    return text


def test_a_file_scores_as_its_text(
    model: pocketgpt.Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(score_file, "encode_stream", partial(encode_stream, part=50, overlap=1))
    text = write_text(tmp_path / "text", 600)
    seen: list[tuple[int, int]] = []
    found = model.score_file(
        tmp_path / "text", stride=24, progress=lambda done, total: seen.append((done, total))
    )
    expected = model.score(text, stride=24)
    assert found.perplexity == pytest.approx(expected.perplexity, rel=1e-6)
    assert found.bits_per_byte == pytest.approx(expected.bits_per_byte, rel=1e-6)
    assert found.tokens == len(expected.log_probs)
    assert found.bytes == len(text.encode())
    assert seen[-1] == (found.tokens, found.tokens)


def test_files_that_cannot_be_scored_are_refused(model: pocketgpt.Model, tmp_path: Path) -> None:
    (tmp_path / "short").write_text("a", "utf-8")
    (tmp_path / "latin").write_bytes(b"caf\xe9 noir")
    with pytest.raises(OptionError, match="has 1 tokens and cannot be scored"):
        model.score_file(tmp_path / "short")
    (tmp_path / "folder").mkdir()
    for name in ("latin", "missing", "folder", "nul\0"):
        with pytest.raises(OptionError, match=f"{name} cannot be read"):
            model.score_file(tmp_path / name)
    with pytest.raises(OptionError, match="stride should be"):
        model.score_file(tmp_path / "short", stride=65)


def test_a_pipe_scores_as_its_text(model: pocketgpt.Model, tmp_path: Path) -> None:
    text = write_text(tmp_path / "text", 300)
    expected = model.score_file(tmp_path / "text")
    os.mkfifo(tmp_path / "pipe")
    writer = threading.Thread(target=(tmp_path / "pipe").write_bytes, args=(text.encode(),))
    writer.start()
    seen: list[tuple[int, int]] = []
    found = model.score_file(tmp_path / "pipe", progress=lambda *counts: seen.append(counts))
    writer.join()
    assert (found.tokens, found.bytes) == (expected.tokens, expected.bytes)
    assert found.perplexity == expected.perplexity
    assert seen[-1] == (found.tokens, found.tokens)
    in_memory = model.score_file(io.BytesIO(text.encode()))
    assert in_memory.perplexity == expected.perplexity


def test_an_estimated_total_never_falls_below_what_is_done(
    model: pocketgpt.Model, tmp_path: Path
) -> None:
    write_text(tmp_path / "text", 3000)
    seen: list[tuple[int, int]] = []
    model.score_file(tmp_path / "text", progress=lambda *counts: seen.append(counts))
    assert all(done <= total for done, total in seen)
