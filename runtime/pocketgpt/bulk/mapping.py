"""A file of rows to a file of answered rows, on one machine; killed, it goes on where it was."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from ..errors import OptionError
from ..folder.atomic import locked
from ..folder.file_record import sha256
from .job import ERROR, Job, row_id
from .journal import Journal
from .rows import RowFile, is_parquet, parts, row_file, write_rows
from .worker import RowWorker


@dataclass(frozen=True)
class Mapped:
    """What a run of `map_file` did.

    Attributes:
        path: what was written.
        rows: how many rows it has.
        errors: how many of them have an error in the place of an answer.
        resumed: how many were answered before, by a run that did not come to its end.
        seconds: how long this run took to answer the others, without loading the model.
    """

    path: str
    rows: int
    errors: int
    resumed: int
    seconds: float


def map_file(
    job: Job,
    source: str | os.PathLike[str],
    target: str | os.PathLike[str],
    *,
    overwrite: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> Mapped:
    """Answer every row of a file, and write rows and answers, in their order, to another.

    What is answered is kept in the folder `TARGET.partial`, a few rows at a time. The same call
    goes on from there after a kill, and gives the file that it would have given without. At the
    end `target` appears in one step.

    Args:
        job: what to do with each row.
        source: the rows, `.jsonl` or, with the extra `bulk`, `.parquet`. A plain file: it is read
            several times.
        target: what to write, likewise by its ending.
        overwrite: replace `target`, and drop what a run of other settings has left.
        progress: called with (rows answered, rows in all).

    Raises:
        OptionError: the job cannot be done; the source is no file of rows, has no id in a row or
            one twice; the target is there, or the source itself; or a run of other settings has
            left a part of it.
        MissingExtraError: Parquet needs the extra `bulk`.
        OSError: the target cannot be written.

    Example:
        >>> map_file(Job("models/gpt2"), "prompts.jsonl", "answers.jsonl").errors
    """
    source, target = Path(source), Path(target)
    rows = row_file(source)
    parquet = is_parquet(target)
    _check_target(source, target, overwrite)
    count = _count(rows, job)
    if parquet:
        rows.schema()  # refused before the work, not after it
    worker = RowWorker(job)
    settings = {**worker.settings, "rows": sha256(source)}
    with _folder_beside(target) as folder:
        journal = Journal(folder, settings, job.rows_at_a_time, anew=overwrite)
        try:
            resumed, begun = journal.done, time.perf_counter()
            _answer(worker, rows, journal, count, progress)
            seconds = time.perf_counter() - begun
            part = folder / "rows.part"
            write_rows(part, rows, journal.answers(), job.columns, parquet=parquet)
            errors = sum(one[job.prefix + ERROR] is not None for one in journal.answers())
            part.replace(target)
            journal.remove()
        finally:
            journal.close()
    return Mapped(str(target), count, errors, resumed, seconds)


def _answer(
    worker: RowWorker,
    rows: RowFile,
    journal: Journal,
    count: int,
    progress: Callable[[int, int], None] | None,
) -> None:
    """Answer what is not answered yet, a few rows at a time."""
    left = rows.rows(journal.done)
    if progress:
        progress(journal.done, count)
    for part in parts(left, worker.job.rows_at_a_time):
        journal.append(worker.answers(part, journal.done))
        if progress:
            progress(journal.done, count)


def _count(rows: RowFile, job: Job) -> int:
    """Read all rows once, and return how many there are.

    Raises:
        OptionError: one has no id or another's, or has a column that is to be added; or none has a
            text.
    """
    path, column = rows.path, job.id_column
    seen: dict[str | int, int] = {}
    number, texts, known = 0, False, set[str]()
    for number, row in enumerate(rows.rows(), 1):
        texts = texts or job.text_column in row
        known |= row.keys()
        if taken := sorted(row.keys() & job.columns.keys()):
            raise OptionError(
                f"{path}, row {number} has a column {taken[0]!r} already; rename it, or let the "
                "new ones begin otherwise: --prefix"
            )
        if column is None:
            continue
        try:
            own = row_id(row.get(column))
        except OptionError as error:
            raise OptionError(f"{path}, row {number}, {column!r}: {error}") from None
        if (first := seen.setdefault(own, number)) != number:
            raise OptionError(
                f"{path}, rows {first} and {number} have one {column!r}, {own!r:.60}; ids have to "
                "be unique"
            )
    if number and not texts:
        names = ", ".join(sorted(known))
        raise OptionError(f"{path} has no column {job.text_column!r} ({names}); name it: --column")
    return number


def _check_target(source: Path, target: Path, overwrite: bool) -> None:
    if target.is_dir():
        raise OptionError(f"{target} is a folder; name a file")
    if target.exists():
        if target.samefile(source):
            raise OptionError(f"{target} is the file that is read; write another")
        if not overwrite:
            raise OptionError(f"{target} exists; replace it with --overwrite, or name another")


@contextmanager
def _folder_beside(target: Path) -> Iterator[Path]:
    """Yield the folder of a run, which nobody else has open.

    Raises:
        OptionError: another process does.
    """
    folder = target.with_name(f"{target.name}.partial")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except FileExistsError as error:
        reason = os.strerror(errno.ENOTDIR)
        raise NotADirectoryError(errno.ENOTDIR, reason, error.filename) from None
    with locked(folder) as held:
        if not held and os.name == "posix":
            raise OptionError(f"{folder} is another process's, which writes {target} now")
        yield folder
