"""examples/finetune.py, whole, on a small checkpoint and little text."""

from __future__ import annotations

from pathlib import Path

import pytest

import pocketgpt
from pocketgpt_export import export

from ..conftest import SENTENCES
from .conftest import Run


def test_it_trains_ships_and_scores(
    run: Run, tiny_checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The text it was trained on is likelier afterwards, in every variant."""
    text = "\n\n".join(SENTENCES[:3] * 12)
    (tmp_path / "own.txt").write_text(text, "utf-8")
    folder = tmp_path / "folder"
    run(
        "finetune.py",
        tmp_path / "own.txt",
        "--checkpoint",
        tiny_checkpoint,
        "--folder",
        folder,
        "--epochs",
        12,
    )
    printed = capsys.readouterr().out
    for word in ("before, fp32", "after, fp32", "after, int8", "after, q4", "Sherlock Holmes"):
        assert word in printed
    untrained = tmp_path / "untrained"
    export(tiny_checkpoint, untrained)
    before = pocketgpt.load(untrained).score(SENTENCES[0]).perplexity
    for variant in ("fp32", "int8", "q4"):
        assert pocketgpt.load(folder, variant).score(SENTENCES[0]).perplexity < before / 2


def test_too_short_a_text_is_told_at_once(run: Run, tiny_checkpoint: Path, tmp_path: Path) -> None:
    (tmp_path / "own.txt").write_text("too short", "utf-8")
    with pytest.raises(SystemExit, match="too short"):
        run(
            "finetune.py",
            tmp_path / "own.txt",
            "--checkpoint",
            tiny_checkpoint,
            "--folder",
            tmp_path / "folder",
        )
    assert not (tmp_path / "folder").exists()
