"""What is to be done with every row: a value that goes to other processes, and says what it is."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

import numpy as np

from .. import validate
from .._version import __version__
from ..errors import OptionError
from ..generation.generator import BATCH_SIZE

Task = Literal["generate", "score", "classify", "choose"]
RowId = str | int
ERROR = "error"  # the column of what is wrong with a row
BATCHES = 8  # of texts that are answered, and written, at a time

# What each task adds to a row, by what kind of value it is.
COLUMNS: Mapping[Task, Mapping[str, str]] = {
    "generate": {"completion": "text", "finish_reason": "text", "new_tokens": "whole"},
    "score": {
        "log_prob": "number",
        "scored_tokens": "whole",
        "perplexity": "number",
        "bits_per_byte": "number",
    },
    "classify": {"label": "text", "probability": "number", "probabilities": "numbers"},
    "choose": {"choice": "text", "choice_index": "whole", "scores": "numbers"},
}
# The options of a task; those of `generate` are a generation's.
_OPTIONS: Mapping[Task, frozenset[str]] = {
    "score": frozenset({"stride"}),
    "classify": frozenset({"truncation"}),
    "choose": frozenset({"normalization"}),
}
# Settings that tell a reader nothing.
_HASHES = {"model": "the model is another", "rows": "the rows are others"}
# What of `load` changes how fast an answer comes, and not what it is.
_PACE = ("progress", "selftest", "strict", "threads", "verify")


@dataclass(frozen=True)
class Job:
    """One task, done with every row alike.

    Attributes:
        folder: the model, as `pocketgpt.load` takes it.
        task: `generate`, `score`, `classify` or `choose`: what the model does with a row.
        column: the column with the text; None for `prompt` (generate, choose) or `text`.
        id_column: the column that tells rows apart, strings or whole numbers; None for a row's
            number in its file, from 0.
        options: those of `Model.generate`, or `stride` (score), `truncation` (classify) or
            `normalization` (choose).
        choices: what `choose` ranks, the same for each row; empty where rows have their own.
        choices_column: the column of a row's own, a list of strings.
        seed: with a row's id it makes the row's own seed.
        batch_size: most texts to decode at once. With 1 each is computed alone.
        prefix: what the names of new columns begin with.
        loading: options of `pocketgpt.load`, `variant` and `threads` among them.
        adapter: the name of one of `loading`'s adapters, or None.

    Raises:
        OptionError: a value is none of these, or the task has no such option.

    Example:
        >>> Job("models/gpt2", id_column="id", options={"max_new_tokens": 40})
    """

    folder: str | os.PathLike[str]
    task: Task = "generate"
    column: str | None = None
    id_column: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    choices: Sequence[str] = ()
    choices_column: str = "choices"
    seed: int = 0
    batch_size: int = BATCH_SIZE
    prefix: str = ""
    loading: Mapping[str, Any] = field(default_factory=dict)
    adapter: str | None = None

    def __post_init__(self) -> None:
        """Check what can be checked without the model."""
        validate.one_of("task", self.task, get_args(Task))
        validate.whole("seed", self.seed, at_least=0)
        validate.whole("batch_size", self.batch_size, at_least=1)
        if self.choices and self.task != "choose":
            raise OptionError(f"choices are for the task choose, not for {self.task}")
        if self.task == "generate":
            if "seed" in self.options:
                raise OptionError("seed is the job's, not a generation's: each row has its own")
            if self.options.get("num_return_sequences", 1) != 1:
                raise OptionError("a row has one text: leave out num_return_sequences")
            return
        known = _OPTIONS[self.task]
        if unknown := sorted(set(self.options) - known):
            raise OptionError(
                f"the task {self.task} has no option {', '.join(unknown)}, only {', '.join(known)}"
            )

    @property
    def text_column(self) -> str:
        """The column that is read."""
        return self.column or ("prompt" if self.task in ("generate", "choose") else "text")

    @property
    def columns(self) -> dict[str, str]:
        """The columns that are added, the last one for errors, by the kind of their values."""
        kinds = {**COLUMNS[self.task], ERROR: "text"}
        return {self.prefix + name: kind for name, kind in kinds.items()}

    @property
    def rows_at_a_time(self) -> int:
        """How many rows are answered together, and then written."""
        return BATCHES * self.batch_size

    def seed_of(self, row_id: RowId) -> int:
        """Return a row's seed: the same on every machine, whatever rows are beside it."""
        named = json.dumps([self.seed, row_id]).encode("ascii")
        return int.from_bytes(hashlib.blake2b(named, digest_size=8).digest())

    def settings(self, identity: str) -> dict[str, Any]:
        """Return all that answers depend on, as JSON has it.

        Args:
            identity: the model's, by its files' hashes.
        """
        loading = {name: value for name, value in self.loading.items() if name not in _PACE}
        loading.pop("adapters", None)  # told by the identity
        said = {
            "version": __version__,
            "model": identity,
            "task": self.task,
            "column": self.text_column,
            "id": self.id_column,
            "choices": list(self.choices) or self.choices_column,
            "seed": self.seed,
            "batch_size": self.batch_size,
            "prefix": self.prefix,
            **{name: value for name, value in loading.items() if value not in (None, False)},
            **self.options,
        }
        settings: dict[str, Any] = json.loads(json.dumps(said, default=str))
        return settings


def row_id(value: object) -> RowId:
    """Return a row's id in plain Python's own type.

    Raises:
        OptionError: it is neither a string nor a whole number.
    """
    if isinstance(value, str):
        return str(value)
    if isinstance(value, (int, np.integer)) and not isinstance(value, bool):
        return int(value)
    raise validate.refused("a row's id", "a string or a whole number", value)


def differing(before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """Say in a line how two runs' settings differ; empty where they do not."""
    return ", ".join(
        _HASHES.get(name, f"{name} was {before.get(name)!r:.60} and is {now.get(name)!r:.60}")
        for name in {**before, **now}
        if before.get(name) != now.get(name)
    )
