"""Finished runs of the benchmark, a line of JSON each, written as soon as each has ended.

So a benchmark that was cut short goes on where it ended, and its report can be made again.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

MACHINE = "machine"  # the label of what belongs to no system


@dataclass(frozen=True)
class Run:
    """What one process found, or why it found nothing.

    Attributes:
        checkpoint: the name of what was run; empty for the machine's own figures.
        label: the system's; MACHINE for the machine's own figures.
        doing: `prepare`, `speed`, `memory`, `quality`; of the machine `described`, `bandwidth`.
        round: which of the repetitions, from 0.
        found: the figures.
        error: why there are none.
    """

    checkpoint: str
    label: str
    doing: str
    round: int = 0
    found: dict[str, Any] = field(default_factory=dict)
    error: str | None = None

    @property
    def key(self) -> tuple[str, str, str, int]:
        """What a later run of the same takes the place of."""
        return self.checkpoint, self.label, self.doing, self.round


class Runs:
    """All runs in a file: of runs of the same, the last."""

    def __init__(self, path: Path) -> None:
        self._path = path
        content = path.read_text("utf-8") if path.exists() else ""
        if content and not content.endswith("\n"):  # the last line was cut off
            path.write_text(content + "\n", "utf-8")
        read = [_read(line) for line in content.splitlines()]
        self._runs = {run.key: run for run in read if run is not None}

    def __iter__(self) -> Iterator[Run]:
        return iter(self._runs.values())

    def add(self, run: Run) -> None:
        """Keep a run, in the file first."""
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(asdict(run)) + "\n")
        self._runs[run.key] = run

    def forget_errors(self) -> None:
        """Let what failed be tried again."""
        self._runs = {key: run for key, run in self._runs.items() if run.error is None}

    def done(self, checkpoint: str, label: str, doing: str, number: int = 0) -> bool:
        """Say whether this was run, and found something."""
        run = self._runs.get((checkpoint, label, doing, number))
        return run is not None and run.error is None

    def of(self, checkpoint: str, label: str, doing: str) -> list[dict[str, Any]]:
        """Return what was found, round by round."""
        runs = [run for run in self if run.key[:3] == (checkpoint, label, doing)]
        return [run.found for run in sorted(runs, key=lambda run: run.round) if run.error is None]

    def error(self, checkpoint: str, label: str) -> str | None:
        """Return why a system has no figures of its speed, if it was tried."""
        errors = [run.error for run in self if run.key[:2] == (checkpoint, label) and run.error]
        return errors[0] if errors else None


def _read(line: str) -> Run | None:
    try:
        return Run(**json.loads(line))
    except (TypeError, ValueError):
        return None  # cut off in the middle


@dataclass(frozen=True)
class Spread:
    """A figure over all rounds."""

    median: float
    least: float
    greatest: float

    @classmethod
    def of(cls, values: list[float]) -> Spread | None:
        """Return it for the rounds' values; None for none."""
        return cls(statistics.median(values), min(values), max(values)) if values else None


def repeats(found: list[dict[str, Any]]) -> bool:
    """Say whether all processes made the same tokens of the same text."""
    known: dict[str, list[int]] = {}
    return all(
        known.setdefault(text, tokens) == tokens
        for one in found
        for text, tokens in one.get("tokens", {}).items()
    )


def agreement(found: list[dict[str, Any]], reference: list[dict[str, Any]]) -> float | None:
    """Return the share of tokens, up to each text's first difference, that are PyTorch's."""
    if not found or not reference:
        return None
    same = total = 0
    for text, tokens in found[0]["tokens"].items():
        expected = reference[0]["tokens"].get(text)
        if expected is None or not text.startswith("1 x "):
            continue
        pairs = enumerate(zip(tokens, expected, strict=True))
        same += next((number for number, (a, b) in pairs if a != b), len(expected))
        total += len(expected)
    return same / total if total else None
