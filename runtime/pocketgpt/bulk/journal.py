"""What is answered already: a file that only grows, beside a note of what run it belongs to.

A process may be killed at any byte. What it wrote last is then half a line, or half of the rows
that are answered together: both are dropped, so that the next run puts the same rows together.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..errors import OptionError
from ..folder.atomic import write_json
from ..folder.json_file import read_json_object
from .job import differing
from .rows import json_line

_SETTINGS = "job.json"
_ANSWERS = "answers.jsonl"


class Journal:
    """The answers to a file's first rows, in their order.

    Attributes:
        done: how many rows are answered.
    """

    def __init__(self, folder: Path, settings: Mapping[str, Any], step: int, *, anew: bool) -> None:
        """Open a folder, or make one, and drop what is half written.

        Args:
            folder: where it lies.
            settings: of this run: all that answers depend on, the rows among it.
            step: how many rows are answered together.
            anew: begin again where a run of other settings left it.

        Raises:
            OptionError: a run of other settings left it.
            OSError: it cannot be written.
        """
        self._folder = folder
        self._path = folder / _ANSWERS
        if differs := self._left_by_another(settings):
            if not anew:
                raise OptionError(
                    f"{folder} is what another run has answered so far: {differs}; call it the "
                    "same way to go on, or begin again: --overwrite"
                )
            self._path.unlink(missing_ok=True)
        write_json(folder / _SETTINGS, settings)
        self.done, size = self._whole(step)
        self._file = self._path.open("ab")
        self._file.truncate(size)

    def append(self, answers: Sequence[Mapping[str, Any]]) -> None:
        """Write the answers to the next rows, and have them on the disk."""
        self._file.write(b"".join(map(json_line, answers)))
        self._file.flush()
        os.fsync(self._file.fileno())
        self.done += len(answers)

    def answers(self) -> Iterator[Mapping[str, Any]]:
        """Yield all answers."""
        with self._path.open("rb") as file:
            yield from map(json.loads, file)

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def remove(self) -> None:
        """Close and remove all of it."""
        self.close()
        shutil.rmtree(self._folder)

    def _left_by_another(self, settings: Mapping[str, Any]) -> str:
        """Say how the run that left the folder differs; empty where it is this one, or new."""
        note = self._folder / _SETTINGS
        if not note.exists():
            return "its job.json is missing" if self._path.exists() else ""
        found = read_json_object(note, OptionError, remedy="or begin again: --overwrite")
        return differing(found, settings)

    def _whole(self, step: int) -> tuple[int, int]:
        """Return how many rows are answered by whole steps, and how many bytes they take.

        The last step may have fewer rows: nothing tells it from half of one, and it is done again.
        """
        rows = size = read = 0
        if not self._path.exists():
            return 0, 0
        with self._path.open("rb") as file:
            for number, line in enumerate(file, 1):
                if not _is_whole(line):
                    break
                read += len(line)
                if number % step == 0:
                    rows, size = number, read
        return rows, size


def _is_whole(line: bytes) -> bool:
    """Whether a line was written to its end: bytes may be zero after the power went."""
    try:
        return line.endswith(b"\n") and isinstance(json.loads(line), dict)
    except ValueError:
        return False
