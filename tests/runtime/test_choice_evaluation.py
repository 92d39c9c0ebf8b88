"""Multiple-choice questions in a file: accuracies, the file's format, the command."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

import pocketgpt
from pocketgpt import Choice, Choices, OptionError
from pocketgpt.measure.choice import accuracies, read_questions

from ..conftest import Cli

QUESTIONS: list[dict[str, Any]] = [
    {"prompt": "The lighthouse keeper", "choices": [" counted", " 灯台守は夕方"], "id": 1},
    {"prompt": "A small boat, three", "choices": [" nets", " herring", " caf\u00e9s 😀"]},
    {"prompt": "", "choices": ["The", "We danced"]},
]


def write(path: Path, *lines: Any) -> Path:
    written = [line if isinstance(line, str) else json.dumps(line) for line in lines]
    path.write_text("\n".join(written), "utf-8")
    return path


def test_accuracies_by_hand() -> None:
    """By the sum the second is chosen, by bytes the first: -6 / 12 against -4 / 2."""
    first, second = Choice("twelve bytes", -6.0, 2, 12), Choice("ab", -4.0, 1, 2)
    found = [Choices.of([first, second], "none")] * 4
    assert accuracies(found, [1, 1, 1, 0]) == {"acc": 3 / 4, "acc_bytes": 1 / 4}


def test_answers_are_those_of_choose(tiny: pocketgpt.Model, tmp_path: Path) -> None:
    chosen = [tiny.choose(q["prompt"], q["choices"]) for q in QUESTIONS]
    lines = [{**QUESTIONS[0], "answer": chosen[0].index}, "", {**QUESTIONS[1], "answer": 1}]
    lines.append({**QUESTIONS[2], "answer": chosen[2].text})
    seen: list[tuple[int, int]] = []
    path = write(tmp_path / "questions.jsonl", *lines)
    found = tiny.evaluate(path, "choice", progress=lambda *done: seen.append(done))
    assert found.texts == tuple(one.text for one in chosen)
    right = 2 + (chosen[1].index == 1)
    by_bytes = [tiny.choose(q["prompt"], q["choices"], normalization="bytes") for q in QUESTIONS]
    answers = [chosen[0].index, 1, chosen[2].index]
    right_by_bytes = sum(one.index == a for one, a in zip(by_bytes, answers, strict=True))
    assert found.scores == {"acc": right / 3, "acc_bytes": right_by_bytes / 3}
    assert (found.metric, found.pairs) == ("choice", 3)
    assert seen == [(1, 3), (2, 3), (3, 3)]


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("[]", "should be an object with prompt, choices and answer"),
        ({"choices": ["a", "b"], "answer": 0}, "prompt should be a string, not None"),
        ({"prompt": "A", "choices": ["a"], "answer": 0}, "at least two"),
        ({"prompt": "A", "choices": "ab", "answer": 0}, "strings in a list"),
        ({"prompt": "A", "choices": ["a", 1], "answer": 0}, "strings in a list"),
        ({"prompt": "A", "choices": ["a", "b"]}, "answer should be the index"),
        ({"prompt": "A", "choices": ["a", "b"], "answer": 2}, "0 to 1, or the text of one, not 2"),
        ({"prompt": "A", "choices": ["a", "b"], "answer": True}, "not True"),
        ({"prompt": "A", "choices": ["a", "a"], "answer": "a"}, "not 'a'"),
        ({"prompt": "A", "choices": ["a", ""], "answer": 0}, "choice 2 has no token of its own"),
        ({"prompt": "A", "choices": ["a", "é€" * 99], "answer": 0}, "and choice 2 have"),
    ],
    ids=str,
)
def test_a_broken_line_is_refused_by_its_number(
    tiny: pocketgpt.Model, tmp_path: Path, line: Any, says: str
) -> None:
    good = {**QUESTIONS[0], "answer": 0}
    path = write(tmp_path / "questions.jsonl", good, "", line, good)
    with pytest.raises(OptionError, match=f"questions.jsonl, line 3: .*{says}") as caught:
        tiny.evaluate(path, "choice")
    assert "\n" not in str(caught.value)


def test_an_answer_may_be_a_text(tmp_path: Path) -> None:
    line = {**QUESTIONS[1], "answer": " herring"}
    (question,) = read_questions(write(tmp_path / "q", line))
    assert (question.answer, question.line) == (1, 1)


def test_a_byte_order_mark_is_no_part_of_a_line(tmp_path: Path) -> None:
    line = json.dumps({"prompt": "a", "choices": ["b", "c"], "answer": "c"})
    path = tmp_path / "questions.jsonl"
    path.write_bytes(b"\xef\xbb\xbf" + line.encode())
    assert [(one.line, one.answer) for one in read_questions(path)] == [(1, 1)]


def test_bad_calls_are_refused(tiny: pocketgpt.Model, tmp_path: Path) -> None:
    path = write(tmp_path / "q", {**QUESTIONS[0], "answer": 0})
    with pytest.raises(OptionError, match="leave out max_new_tokens"):
        tiny.evaluate(path, "choice", max_new_tokens=4)
    with pytest.raises(OptionError, match="no adapter 'x' was loaded"):
        tiny.evaluate(path, "choice", adapter="x")
    with pytest.raises(OptionError, match=r"has no line; write .*choices"):
        tiny.evaluate(write(tmp_path / "empty", ""), "choice")


def test_the_command_line(
    cli: Cli, tiny: pocketgpt.Model, tiny_folder: Path, tmp_path: Path
) -> None:
    path = write(tmp_path / "q.jsonl", *({**q, "answer": 0} for q in QUESTIONS))
    expected = tiny.evaluate(path, "choice")
    call = ["evaluate", tiny_folder, path, "--metric", "choice", "--variant", "fp32"]
    code, text, _ = cli(*call, "--json")
    assert code == 0
    assert json.loads(text) == json.loads(json.dumps(dataclasses.asdict(expected)))
    code, text, _ = cli(*call)
    assert code == 0
    assert f"{expected.scores['acc_bytes']:.4f}" in text
    assert "3 prompts; shares answered right" in text
    code, text, errors = cli(*call, "--max-new-tokens", 4)
    assert (code, text) == (2, "")
    assert "leave out max_new_tokens" in errors
