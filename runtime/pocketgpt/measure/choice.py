"""Multiple-choice questions in a file, and how many a model answers right by log-probability."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .. import validate
from ..errors import OptionError
from ..folder.fields import is_whole
from ..generation.generator import TextGenerator
from ..tasks.choose import Choices, encode_choices, measured
from .evaluation import Evaluation
from .json_lines import read_json_lines

METRIC = "choice"


@dataclass(frozen=True)
class Question:
    """One line of a file: `line` counts from 1; `answer` is the index of the right choice."""

    line: int
    prompt: str
    choices: tuple[str, ...]
    answer: int


def evaluate_choices(
    model: TextGenerator,
    path: Path,
    batch_size: int,
    progress: Callable[[int, int], None] | None = None,
    adapter: str | None = None,
) -> Evaluation:
    """Let a model choose among each line's choices; see `Model.evaluate`."""
    model.check_task("text-generation")
    validate.whole("batch_size", batch_size, at_least=1)
    model.adapter(adapter)  # refused before the file is read
    questions = read_questions(path)
    encoded = []
    for question in questions:
        try:
            encoded.append(encode_choices(model, question.prompt, question.choices))
        except OptionError as error:
            raise OptionError(f"{path}, line {question.line}: {error}") from None
    found = []
    for question, ids in zip(questions, encoded, strict=True):
        choices = measured(model, question.choices, ids, batch_size, adapter)
        found.append(Choices.of(choices, "none"))
        if progress:
            progress(len(found), len(questions))
    return Evaluation(
        metric=METRIC,
        scores=accuracies(found, [question.answer for question in questions]),
        signature="shares answered right, by log-probability and by that for each byte",
        pairs=len(questions),
        texts=tuple(one.text for one in found),
    )


def accuracies(found: list[Choices], answers: list[int]) -> dict[str, float]:
    """Return the shares of right answers, by lm-evaluation-harness' names.

    `acc` by the log-probability of all of a choice's tokens, `acc_bytes` by that for each byte of
    it, without white space in front.
    """
    by_bytes = [Choices.of(one.choices, "bytes") for one in found]
    return {
        name: sum(one.index == answer for one, answer in zip(each, answers, strict=True))
        / len(answers)
        for name, each in {"acc": found, "acc_bytes": by_bytes}.items()
    }


def read_questions(path: str | os.PathLike[str]) -> list[Question]:
    """Read a file of JSON lines, each an object with `prompt`, `choices` and `answer`.

    The answer is the index of a choice, from 0, or its text. Other keys are passed over, and so are
    empty lines.

    Raises:
        OptionError: the file cannot be read or has no line, or one is broken; the message has its
            number.
    """
    example = '{"prompt": "...", "choices": [" ...", " ..."], "answer": 0}'
    return read_json_lines(path, _parse, "prompt, choices and answer", example)


def _parse(number: int, fields: Mapping[str, Any]) -> Question:
    prompt, choices, answer = (fields.get(name) for name in ("prompt", "choices", "answer"))
    if not isinstance(prompt, str):
        raise ValueError(f"prompt should be a string, not {prompt!r:.60}")
    if not isinstance(choices, list) or len(choices) < 2 or not _are_texts(choices):
        raise ValueError("choices should be strings in a list, at least two")
    index: Any = choices.index(answer) if choices.count(answer) == 1 else answer
    if not is_whole(index, 0, len(choices) - 1):
        raise ValueError(
            f"answer should be the index of a choice, 0 to {len(choices) - 1}, or the text of one, "
            f"not {answer!r:.60}"
        )
    return Question(number, prompt, tuple(choices), index)


def _are_texts(values: list[Any]) -> bool:
    return all(isinstance(value, str) for value in values)
