"""Files on a Ray cluster, with a note of what is written: any process of it may die.

What is written is noted by Ray Data itself, row by row (`CheckpointConfig`): each file of answers
is announced before it is written and noted after it, so that a run that was killed leaves either a
file and its ids, or a file that the next run removes.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import OptionError, one_line
from ..extras import needs_extra
from ..folder.atomic import write_json
from ..folder.json_file import read_json_object
from .job import Job, differing
from .on_ray import map_dataset, plain_reading, pool_of
from .rows import is_parquet
from .worker import RowWorker

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pyarrow

ROWS_PER_FILE = 4096
_SUCCESS = "_SUCCESS"  # as Hadoop and Spark call it; readers of Parquet pass over it
_SETTINGS = "job.json"
_IDS = "ids"
_FILTER_MEMORY = 64 * 2**20  # bytes that Ray sets aside for those who pass over noted rows


def map_files(
    job: Job,
    source: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    target: str | os.PathLike[str],
    *,
    actors: int | tuple[int, int] = 1,
    num_cpus: int = 1,
    rows_per_file: int = ROWS_PER_FILE,
    check_ids: bool = True,
    overwrite: bool = False,
) -> int:
    """Answer the rows of files into a folder of Parquet files, on the cluster that Ray is on.

    What is written is noted in `TARGET.checkpoint`, by Ray Data's row-level checkpoints. The same
    call after a kill answers the rows that are not noted, and no other. Both folders, and the
    source, have to be on a file system that every node sees.

    Args:
        job: what to do with each row; its `id_column` is needed.
        source: a Parquet file, or several.
        target: a folder, which is made. `_SUCCESS` is in it when it is complete.
        actors: how many, or the fewest and the most.
        num_cpus: CPUs, and threads, of each.
        rows_per_file: about how many rows go to an actor, and to a file, at a time: what a kill
            loses at most of each actor's work.
        check_ids: read the column of ids here first and refuse one that is there twice; it takes
            the memory of the column. Rows whose ids are not unique are lost after a kill.
        overwrite: remove what is there, complete or of other settings.

    Returns:
        How many rows the folder has.

    Raises:
        OptionError: the job cannot be done, an id is there twice or missing, the target is there,
            or a run of other settings has left a part of it.
        MissingExtraError: the extra `bulk` is missing.

    Example:
        >>> map_files(Job("models/gpt2", id_column="id"), "prompts.parquet", "answers", actors=8)
    """
    with needs_extra("bulk"):
        import pyarrow.parquet as pq
        import ray.data
    files = _files(source)
    pool_of(job, actors, num_cpus)
    output = Path(target).absolute()
    notes = output.with_name(f"{output.name}.checkpoint")
    settings = {**RowWorker(job).settings, "rows": [_known(file) for file in files]}
    if not _goes_on(output, notes, settings, overwrite):
        _check_columns(files, job, check_ids)
        for folder in (output, notes):
            shutil.rmtree(folder, ignore_errors=True)
        notes.mkdir(parents=True)
        write_json(notes / _SETTINGS, settings)
    output.mkdir(parents=True, exist_ok=True)  # which Ray does not make where there are no rows
    with _noting(notes / _IDS, job):
        parts = ray.data.read_parquet([str(file.absolute()) for file in files])
        parts = parts.repartition(target_num_rows_per_block=rows_per_file)
        rows = map_dataset(parts, job, actors=actors, num_cpus=num_cpus)
        rows.write_parquet(str(output), mode=ray.data.SaveMode.APPEND)
    count: int = sum(pq.read_metadata(file).num_rows for file in output.glob("*.parquet"))
    write_json(output / _SUCCESS, {**settings, "count": count})
    shutil.rmtree(notes)
    return count


def _check_columns(files: Sequence[Path], job: Job, unique: bool) -> None:
    """Refuse columns that are missing or there already, and ids that are missing or there twice.

    A note of one such row would hide the others. Read here, not by the cluster: a column of ids is
    small beside what is to be computed.

    Args:
        files: Parquet.
        job: what names the columns.
        unique: whether to read the ids.
    """
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    column = job.id_column
    parts = []
    for file in files:
        try:
            _check_schema(file, pq.read_schema(file), job)
            if unique:
                parts.append(pq.read_table(file, columns=[column])[column])
        except (OSError, pa.ArrowException) as error:
            raise OptionError(f"{file} cannot be read: {one_line(error)}") from None
    if not parts:
        return
    ids = pa.chunked_array([chunk for part in parts for chunk in part.chunks], parts[0].type)
    if ids.null_count:
        raise OptionError(f"{ids.null_count} rows have no {column!r}; every row needs one")
    if len(ids) != pc.count_distinct(ids).as_py():
        counted = pc.value_counts(ids)
        first = counted.filter(pc.greater(counted.field("counts"), 1))[0].as_py()
        raise OptionError(
            f"{first['counts']} rows have one {column!r}, {first['values']!r:.60}; ids have to be "
            "unique"
        )


def _check_schema(file: Path, schema: pyarrow.Schema, job: Job) -> None:
    import pyarrow as pa

    for name in (job.id_column, job.text_column):
        if name not in schema.names:
            raise OptionError(f"{file} has no column {name!r} ({', '.join(schema.names)})")
    if taken := sorted(set(schema.names) & job.columns.keys()):
        raise OptionError(f"{file} has a column {taken[0]!r} already; set the job's prefix")
    kind = schema.field(job.id_column).type
    if not (
        pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_integer(kind)
    ):
        raise OptionError(
            f"{file}, {job.id_column!r}: ids should be strings or whole numbers, not {kind}"
        )


def _files(source: str | os.PathLike[str] | Sequence[str | os.PathLike[str]]) -> list[Path]:
    """Return the files of a call. Of JSON lines Ray guesses types: "007" would be the number 7."""
    files = [Path(one) for one in ([source] if isinstance(source, str | os.PathLike) else source)]
    if not files or not all(is_parquet(file) for file in files):
        raise OptionError("a cluster reads Parquet; of other files make datasets, for map_dataset")
    return files


def _known(file: Path) -> list[Any]:
    """Return what tells a file from another without reading it, as JSON has it."""
    try:
        return [str(file.absolute()), file.stat().st_size]
    except OSError as error:
        raise OptionError(f"{file} cannot be read: {error.strerror}") from None


def _goes_on(output: Path, notes: Path, settings: Mapping[str, Any], overwrite: bool) -> bool:
    """Whether there is a part of this very run; what else is there may be removed.

    Raises:
        OptionError: something else is there that may not.
    """
    left = ""
    if (output / _SUCCESS).exists():
        left = f"{output} is complete"
    elif (notes / _SETTINGS).exists():
        found = read_json_object(notes / _SETTINGS, OptionError, remedy=f"remove {notes}")
        if not (differs := differing(found, settings)):
            return True
        left = f"{notes} is of another run: {differs}"
    elif output.exists():
        left = f"{output} exists, and no {notes.name} beside it says what of"
    if left and not overwrite:
        raise OptionError(f"{left}; name another folder, or replace it: overwrite")
    return False


@contextmanager
def _noting(ids: Path, job: Job) -> Iterator[None]:
    """Let datasets that are made inside note the ids of rows when they are written."""
    from ray.data.checkpoint import CheckpointConfig

    config = CheckpointConfig(job.id_column, str(ids), delete_checkpoint_on_success=False)
    config.checkpoint_actor_memory_bytes = _FILTER_MEMORY  # a GiB each otherwise
    with plain_reading() as context:  # of the notes, too
        before = context.checkpoint_config
        context.checkpoint_config = config
        try:
            yield
        finally:
            context.checkpoint_config = before
