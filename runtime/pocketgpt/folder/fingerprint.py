"""What a variant says to a few prompts: by it a device is known to compute the same model."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from .fields import is_number, is_whole, require

MOST_ANSWERS, LONGEST_PROMPT = 16, 1024


@dataclass(frozen=True)
class Answer:
    """What follows the last tokens of a prompt, given as ids.

    Of each of the last tokens a row, `likeliest` has the largest logits' ids, `logits` themselves.

    Raises:
        ValueError: a field is of a wrong type or out of range.
    """

    prompt: tuple[int, ...]
    likeliest: tuple[tuple[int, ...], ...]
    logits: tuple[tuple[float, ...], ...]

    def __post_init__(self) -> None:
        """Check the fields."""
        rows = len(self.likeliest)
        columns = len(self.likeliest[0]) if rows else 0
        long_enough = 0 < rows <= len(self.prompt) <= LONGEST_PROMPT
        require("prompt", self.prompt, long_enough and all(map(_is_id, self.prompt)))
        for name, holds in (("likeliest", _is_id), ("logits", is_number)):
            part = getattr(self, name)
            alike = len(part) == rows and all(len(row) == columns > 0 for row in part)
            require(name, part, alike and all(holds(value) for row in part for value in row))


@dataclass(frozen=True)
class Fingerprint:
    """A variant's answers, computed on the CPU, in one pass each.

    `deviation` is the standard deviation of all the logits that they were taken from.

    Raises:
        ValueError: a field is of a wrong type or out of range.
    """

    answers: tuple[Answer, ...]
    deviation: float

    def __post_init__(self) -> None:
        """Check the fields."""
        require("answers", self.answers, 0 < len(self.answers) <= MOST_ANSWERS)
        require("deviation", self.deviation, is_number(self.deviation) and self.deviation >= 0)

    @property
    def sha256(self) -> str:
        """What tells it from every other."""
        import hashlib  # as in `file_record.sha256`

        return hashlib.sha256(json.dumps(dataclasses.asdict(self)).encode()).hexdigest()

    @classmethod
    def of_json(cls, fields: Mapping[str, Any]) -> Fingerprint:
        """Make one of what a JSON file says.

        Raises:
            ValueError, TypeError, KeyError: it says something else.
        """
        answers = tuple(
            Answer(
                tuple(answer["prompt"]),
                tuple(map(tuple, answer["likeliest"])),
                tuple(map(tuple, answer["logits"])),
            )
            for answer in fields["answers"]
        )
        return cls(answers, fields["deviation"])


def _is_id(value: object) -> bool:
    return is_whole(value, 0, 2**31 - 1)
