"""Files of rows, read from any row on, and written in one step: JSON lines, Parquet."""

from __future__ import annotations

import json
import os
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from ..errors import OptionError, one_line
from ..extras import needs_extra
from ..folder.json_file import finite
from .columns import added, arrow_schema

if TYPE_CHECKING:
    import pyarrow

JSON_LINES = (".jsonl", ".ndjson")
PARQUET = (".parquet", ".pq")
READ = 1024  # rows of Parquet at a time

Row = Mapping[str, Any]


class RowFile(ABC):
    """A file of rows to read."""

    def __init__(self, path: Path) -> None:
        """Name a file; nothing is read yet."""
        self.path = path

    @abstractmethod
    def rows(self, start: int = 0) -> Iterator[Row]:
        """Yield rows by column from a number on.

        Raises:
            OptionError: the file cannot be read, or a row of it is none.
        """

    @abstractmethod
    def schema(self) -> pyarrow.Schema:
        """Return the columns' types, for Parquet."""

    @abstractmethod
    def batches(self, schema: pyarrow.Schema) -> Iterator[pyarrow.RecordBatch]:
        """Yield all rows as Arrow has them, by `schema`."""


class JsonLines(RowFile):
    """An object a line, UTF-8; empty lines are passed over."""

    def rows(self, start: int = 0) -> Iterator[Row]:
        """Yield rows; those before `start` are not parsed."""
        with _opened(self.path) as file:
            lines = ((number, line) for number, line in enumerate(file, 1) if line.strip())
            for number, line in islice(lines, start, None):
                try:
                    yield _object(line.removeprefix(b"\xef\xbb\xbf") if number == 1 else line)
                except (ValueError, RecursionError) as error:
                    raise OptionError(f"{self.path}, line {number}: {one_line(error)}") from None

    def schema(self) -> pyarrow.Schema:
        """Find types that suit every row."""
        with needs_extra("bulk"):
            import pyarrow as pa
        found = pa.schema([])
        for part in parts(self.rows(), READ):
            try:
                own = pa.Table.from_pylist([*part]).schema
                found = pa.unify_schemas([found, own], promote_options="permissive")
            except pa.ArrowException as error:
                raise OptionError(
                    f"{self.path} cannot become Parquet, a column has several types "
                    f"({one_line(error)}); write .jsonl"
                ) from None
        return found

    def batches(self, schema: pyarrow.Schema) -> Iterator[pyarrow.RecordBatch]:
        """Yield rows, a column that one lacks null."""
        import pyarrow as pa

        for part in parts(self.rows(), READ):
            yield pa.RecordBatch.from_pylist([*part], schema=schema)


class Parquet(RowFile):
    """A Parquet file, of which a row group's columns are in memory at most."""

    def rows(self, start: int = 0) -> Iterator[Row]:
        """Yield rows; row groups before `start` are not read."""
        with self._file() as file:
            groups = [file.metadata.row_group(i).num_rows for i in range(file.num_row_groups)]
            first = 0
            while first < len(groups) and start >= groups[first]:
                start -= groups[first]
                first += 1
            wanted = [*range(first, len(groups))]
            read = file.iter_batches(READ, row_groups=wanted) if wanted else ()
            yield from islice((row for batch in read for row in batch.to_pylist()), start, None)

    def schema(self) -> pyarrow.Schema:
        """Return the file's."""
        with self._file() as file:
            return file.schema_arrow

    def batches(self, schema: pyarrow.Schema) -> Iterator[pyarrow.RecordBatch]:
        """Yield rows, as they are."""
        with self._file() as file:
            yield from file.iter_batches(READ)

    def _file(self) -> Any:
        with needs_extra("bulk"):
            import pyarrow as pa
            import pyarrow.parquet as pq
        try:
            return pq.ParquetFile(self.path)
        except (OSError, pa.ArrowException) as error:
            raise OptionError(f"{self.path} cannot be read: {one_line(error)}") from None


def row_file(path: Path) -> RowFile:
    """Return a file by its ending.

    Raises:
        OptionError: it is none that is known, no file, or a pipe, which cannot be read again.
    """
    kind = Parquet if is_parquet(path) else JsonLines
    if not path.is_file():
        reason = "is no plain file" if path.exists() else "is not there"
        raise OptionError(f"{path} {reason}; name a file of rows, {' or '.join(_ENDINGS)}")
    return kind(path)


def is_parquet(path: Path) -> bool:
    """Whether a file of rows is Parquet, by its ending, or else JSON lines.

    Raises:
        OptionError: it is neither.
    """
    ending = path.suffix.lower()
    if ending not in (*JSON_LINES, *PARQUET):
        raise OptionError(f"{path} should end in {' or '.join(_ENDINGS)}")
    return ending in PARQUET


def write_rows(
    target: Path,
    source: RowFile,
    answers: Iterable[Mapping[str, Any]],
    kinds: Mapping[str, str],
    *,
    parquet: bool,
) -> None:
    """Write the rows of a file with their answers beside them, and have them on the disk.

    Args:
        target: what to write; it is no file yet, or an earlier try.
        source: the rows.
        answers: the new columns of each.
        kinds: the new columns, by what kind of value they have.
        parquet: whether to write Parquet, or JSON lines.

    Raises:
        OptionError: there are more or fewer rows than answers.
    """
    try:
        if parquet:
            _write_parquet(target, source, iter(answers), kinds)
        else:
            _write_json_lines(target, source, answers)
    except ValueError as error:  # zip's, where one ends before the other
        raise OptionError(f"{source.path} has changed while it was read: {error}") from None
    with target.open("rb+") as file:
        os.fsync(file.fileno())


def _write_json_lines(target: Path, source: RowFile, answers: Iterable[Row]) -> None:
    with target.open("wb") as file:
        for row, answer in zip(source.rows(), answers, strict=True):
            file.write(json_line({**row, **answer}))


def _write_parquet(
    target: Path, source: RowFile, answers: Iterator[Row], kinds: Mapping[str, str]
) -> None:
    with needs_extra("bulk"):
        import pyarrow as pa
        import pyarrow.parquet as pq
    own = source.schema()
    with pq.ParquetWriter(target, arrow_schema(own, kinds)) as writer:
        for batch in source.batches(own):
            beside = [*islice(answers, batch.num_rows)]
            if len(beside) < batch.num_rows:
                raise ValueError("it has more rows")
            writer.write_table(added(pa.Table.from_batches([batch]), beside, kinds))
    if next(answers, None) is not None:
        raise ValueError("it has fewer rows")


def json_line(fields: Row) -> bytes:
    """Return an object as a line.

    What JSON cannot say is as Python prints it (a date, bytes), or null (a number that is none).
    """
    try:
        text = json.dumps(fields, ensure_ascii=False, allow_nan=False, default=str)
        return f"{text}\n".encode()
    except UnicodeEncodeError:  # half a pair of surrogates, as a row may hold it
        return f"{json.dumps(fields, default=str)}\n".encode()
    except ValueError:  # a number that is none
        return json_line(finite(fields))


def _object(line: bytes) -> Row:
    try:
        fields = json.loads(line.decode("utf-8"), parse_constant=_refuse_constant)
    except json.JSONDecodeError as error:
        raise ValueError(f"no JSON ({error})") from None
    if not isinstance(fields, dict):
        raise ValueError("should be an object: a row by its columns")
    return fields


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON")


def _opened(path: Path) -> BinaryIO:
    try:
        return path.open("rb")
    except OSError as error:
        raise OptionError(f"{path} cannot be read: {error.strerror}") from None


def parts(rows: Iterator[Row], size: int) -> Iterator[Sequence[Row]]:
    """Yield rows so many at a time."""
    while part := [*islice(rows, size)]:
        yield part


_ENDINGS = (JSON_LINES[0], PARQUET[0])
