"""A model that answers rows: the one part that every engine runs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cached_property
from typing import Any

from ..errors import OptionError, PocketGPTError, one_line
from ..model import Model, load
from .job import ERROR, Job, row_id
from .tasks import Answer, Row, answer, check


class RowWorker:
    """Answers rows by a job, its model loaded once, when it is first needed.

    Pickled, it is its job: whoever gets it loads the model there.

    Attributes:
        job: what is done with a row.

    Example:
        >>> worker = RowWorker(Job("models/gpt2", id_column="id"))
        >>> worker([{"id": 7, "prompt": "Once upon a time"}])
    """

    def __init__(self, job: Job) -> None:
        """Take a job; nothing is loaded yet."""
        self.job = job

    def __reduce__(self) -> tuple[type[RowWorker], tuple[Job]]:
        """Pickle the job alone."""
        return RowWorker, (self.job,)

    @cached_property
    def model(self) -> Model:
        """The model, loaded.

        Raises:
            OptionError: it cannot do the job.
        """
        model = load(self.job.folder, **self.job.loading)
        check(model, self.job)
        return model

    @cached_property
    def settings(self) -> dict[str, Any]:
        """All that answers depend on, as JSON has it.

        Raises:
            OptionError: the model cannot do the job.
        """
        identity = self.model.identity_with(self.job.adapter)
        # Not as asked for, but as found: both may differ between machines.
        found = {"variant": self.model.variant, "kv_cache": self.model.kv_cache}
        return {**self.job.settings(identity), **found}

    def __call__(self, rows: Iterable[Mapping[str, Any]], first: int = 0) -> list[dict[str, Any]]:
        """Return rows with the columns of their answers added; see `answers`."""
        given = list(rows)
        both = zip(given, self.answers(given, first), strict=True)
        return [{**row, **found} for row, found in both]

    def answers(self, rows: Iterable[Mapping[str, Any]], first: int = 0) -> list[Answer]:
        """Answer rows.

        Args:
            rows: by column.
            first: the number of the first one, where there is no column of ids.

        Returns:
            The new columns of each: those of the task and, where it was wrong, the error alone, a
            line.

        Raises:
            InferenceError: the model cannot be run.
            OptionError: the model cannot do the job.
        """
        found: list[Answer | PocketGPTError] = []
        fine: list[tuple[int, Row]] = []
        for place, fields in enumerate(rows):
            try:
                row = Row(fields, self.job.seed_of(self._id(fields, first + place)))
            except OptionError as error:
                found.append(error)
            else:
                found.append({})
                fine.append((place, row))
        done = answer(self.model, self.job, [row for _, row in fine])
        for (place, _), one in zip(fine, done, strict=True):
            found[place] = one
        return [self._complete(one) for one in found]

    def _id(self, fields: Mapping[str, Any], number: int) -> str | int:
        column = self.job.id_column
        return number if column is None else row_id(fields.get(column))

    def _complete(self, found: Answer | PocketGPTError) -> Answer:
        """Return all of the new columns, under their names."""
        known = {ERROR: one_line(found)} if isinstance(found, PocketGPTError) else found
        prefix = self.job.prefix
        return {name: known.get(name.removeprefix(prefix)) for name in self.job.columns}
