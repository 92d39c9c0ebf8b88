"""examples/autocomplete: what it suggests, what it spares, and the terminal it is used in."""

from __future__ import annotations

import os
import pty
import re
import select
import subprocess
import sys
import time
from pathlib import Path

import pytest
from autocomplete import Autocomplete, Suggestion, Words

import pocketgpt

from ..conftest import ROOT


@pytest.fixture(scope="module")
def model(bundled_folder: Path) -> pocketgpt.Model:
    return pocketgpt.load(bundled_folder, "fp32")


def suggest(model: pocketgpt.Model, *texts: str, length: int = 8) -> list[Suggestion]:
    """Type texts, waiting for each one's suggestion; return these."""
    shown: list[Suggestion] = []
    with Autocomplete(model, shown.append, length) as autocomplete:
        for text in texts:
            autocomplete.type(text)
            assert autocomplete.wait(30)
    return [suggestion for suggestion in shown if suggestion.done]


@pytest.mark.parametrize("text", ["Once upon a time,", '"Who is there?"', "She said:"])
def test_behind_a_mark_it_is_what_the_model_says(model: pocketgpt.Model, text: str) -> None:
    (found,) = suggest(model, text)
    expected = model.generate(text, max_new_tokens=8, stop_strings=["\n"]).text
    assert found.suggestion == expected.rstrip()


@pytest.mark.parametrize(
    ("text", "rest"),
    [("Once upon a ti", "me"), ("There lived an old wom", "an"), ("the king and the que", "en")],
)
def test_a_word_that_is_half_typed_is_ended(model: pocketgpt.Model, text: str, rest: str) -> None:
    (found,) = suggest(model, text, length=4)
    assert re.match(rf"{rest}\b", found.suggestion)


def test_a_space_that_was_typed_is_not_suggested_again(model: pocketgpt.Model) -> None:
    words = Words(model)
    assert words.split("Once upon a ") == ("Once upon a", " ")
    (found,) = suggest(model, "Once upon a ", length=4)
    assert found.suggestion.startswith("time")


@pytest.mark.parametrize("text", ["", "a", "Größe", "灯台", "don\u2019t", "The end.", "12"])
def test_words_split_without_a_loss(model: pocketgpt.Model, text: str) -> None:
    whole, begun = Words(model).split(text)
    assert whole + begun == text
    (found,) = suggest(model, text)
    assert "\ufffd" not in found.suggestion


def test_only_what_changed_is_computed(model: pocketgpt.Model) -> None:
    text = "Once upon a time there lived an old woman in a house at the edge of the forest, who"
    tokens = len(model.tokenizer.encode(text))
    first, second, accepted = suggest(model, text, f"{text} had", f"{text} had")
    assert first.computed >= tokens
    assert second.computed < 12 < tokens
    assert accepted.suggestion == second.suggestion


def test_a_keystroke_ends_what_is_being_suggested(model: pocketgpt.Model) -> None:
    """The second text is typed while the first one's suggestion is being made."""
    shown: list[Suggestion] = []

    def type_on(found: Suggestion) -> None:
        shown.append(found)
        if found.text == "Once,":
            autocomplete.type("Once upon a time,")

    with Autocomplete(model, type_on, 64) as autocomplete:
        autocomplete.type("Once,")
        assert autocomplete.wait(60)
    assert [found.text for found in shown].count("Once,") == 1
    assert autocomplete.cancelled == 1
    assert shown[-1].done
    assert shown[-1].text == "Once upon a time,"
    expected = model.generate("Once upon a time,", max_new_tokens=64, stop_strings=["\n"]).text
    assert shown[-1].suggestion == expected.rstrip()


def test_of_many_keystrokes_the_newest_counts(model: pocketgpt.Model) -> None:
    text = "The wolf went into the forest, and"
    shown: list[Suggestion] = []
    with Autocomplete(model, shown.append, 32) as autocomplete:
        for end in range(1, len(text) + 1):
            autocomplete.type(text[:end])
        assert autocomplete.wait(60)
    assert (shown[-1].text, shown[-1].done) == (text, True)
    (alone,) = suggest(model, text, length=32)
    assert shown[-1].suggestion == alone.suggestion


def test_in_a_terminal(bundled_folder: Path) -> None:
    """A suggestion is shown behind what is typed, Tab takes it, Ctrl-C ends."""
    script = ROOT / "examples" / "autocomplete" / "terminal.py"
    ours, theirs = pty.openpty()
    command = [sys.executable, str(script), str(bundled_folder)]
    with subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs) as process:
        os.close(theirs)
        seen = read_until(ours, "\033[1G")  # the empty line
        os.write(ours, b"Once upon a ti")
        seen = read_until(ours, "\033[2mme")
        assert "Once upon a ti\033[2mme" in seen
        assert re.search(r"\d+ ms, \d+ tokens computed", seen)
        os.write(ours, b"\t")
        seen = read_until(ours, "Once upon a time")
        os.write(ours, b"\x03")
        assert process.wait(30) == 0
    os.close(ours)


def read_until(terminal: int, wanted: str, seconds: float = 60) -> str:
    """Read what is written to a terminal until it holds a text."""
    seen, end = "", time.monotonic() + seconds
    while wanted not in seen:
        ready, _, _ = select.select([terminal], [], [], max(0, end - time.monotonic()))
        assert ready, f"no {wanted!r} in {seen!r}"
        seen += os.read(terminal, 65536).decode("utf-8", "replace")
    return seen


def test_without_a_terminal_it_says_so() -> None:
    script = ROOT / "examples" / "autocomplete" / "terminal.py"
    done = subprocess.run(
        [sys.executable, str(script)], stdin=subprocess.DEVNULL, capture_output=True, text=True
    )
    assert done.returncode == 1
    assert done.stderr == "autocomplete needs a terminal of Linux or macOS: type in one\n"
