"""Scoring files: as the text they hold, however little of it is in memory."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import pocketgpt
from pocketgpt import OptionError
from pocketgpt.measure import score_file


def write_text(path: Path, characters: int) -> str:
    """Words, gaps of all kinds and characters of several bytes."""
    random = np.random.default_rng(characters)
    pieces = ["fox", "naïve", "灯台", " ", "  ", "\n", "\r\n", "\t", " the", "42", "!?", " "]
    text = "".join(random.choice(pieces, characters))
    path.write_bytes(text.encode())
    return text


@pytest.mark.parametrize("read", [1, 7, 100])
def test_parts_join_to_the_whole_files_tokens(
    model: pocketgpt.Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, read: int
) -> None:
    monkeypatch.setattr(score_file, "READ_CHARACTERS", read)
    text = write_text(tmp_path / "text", 150)
    expected = model.tokenizer.encode(text)
    tokens = score_file.TokenFile(tmp_path / "text", model.tokenizer, 40)
    assert len(tokens) == len(expected)
    for begin in range(0, len(expected), 20):
        for start in (begin, begin + 5, begin + 20):
            assert tokens[start : start + 20] == expected[start : start + 20]


def test_a_file_scores_as_its_text(
    model: pocketgpt.Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(score_file, "READ_CHARACTERS", 50)
    text = write_text(tmp_path / "text", 200)
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
    for name in ("latin", "missing"):
        with pytest.raises(OptionError, match=f"{name} cannot be read"):
            model.score_file(tmp_path / name)
    with pytest.raises(OptionError, match="stride should be"):
        model.score_file(tmp_path / "short", stride=65)
