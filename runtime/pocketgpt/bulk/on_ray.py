"""Rows on a Ray cluster: a pool of actors, each with the model, and a note of what is written.

What is written is noted by Ray Data itself, row by row (`CheckpointConfig`): each file of answers
is announced before it is written and noted after it, so that a run that was killed leaves either a
file and its ids, or a file that the next run removes.
"""

from __future__ import annotations

import dataclasses
import os
import shutil
from collections.abc import Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .. import validate
from ..errors import OptionError, one_line
from ..extras import needs_extra
from ..folder.atomic import write_json
from ..folder.json_file import read_json_object
from .columns import added
from .job import Job, differing
from .rows import is_parquet
from .worker import RowWorker

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pyarrow
    import ray.data

ROWS_PER_FILE = 4096
_SUCCESS = "_SUCCESS"  # as Hadoop and Spark call it; readers of Parquet pass over it
_SETTINGS = "job.json"
_IDS = "ids"
_FILTER_MEMORY = 64 * 2**20  # bytes that Ray sets aside for those who pass over noted rows


class ArrowWorker:
    """Answers tables of rows: what an actor of Ray runs."""

    def __init__(self, job: Job) -> None:
        """Load the model."""
        self._worker = RowWorker(job)
        self._worker.model  # noqa: B018  # before the first rows: an actor is ready when it is

    def __call__(self, table: pyarrow.Table) -> pyarrow.Table:
        """Return a table with the columns of the answers."""
        return added(table, self._worker.answers(table.to_pylist()), self._worker.job.columns)


def map_dataset(
    dataset: ray.data.Dataset,
    job: Job,
    *,
    actors: int | tuple[int, int] = 1,
    num_cpus: int = 1,
) -> ray.data.Dataset:
    """Answer the rows of a dataset by a pool of actors.

    An actor loads the model once and computes with as many threads as Ray sets CPUs aside for it.
    fp32's weights are used where they lie in their file, once a node however many actors it has;
    those of 8 bits and fewer are laid out anew by ONNX Runtime in each process. Actors and nodes
    that die are replaced, and their rows answered again, by the same seeds.

    Args:
        dataset: rows with a column of ids.
        job: what to do with each. Its folder has to be there on every node; `threads` and
            `low_memory` of its `loading` are set here.
        actors: how many, or the fewest and the most.
        num_cpus: CPUs, and threads, of each.

    Returns:
        The rows with the columns of their answers, in no order: `in_order` restores it.

    Raises:
        OptionError: the job has no column of ids, or a number is out of range.
        MissingExtraError: the extra `bulk` is missing.
    """
    with needs_extra("bulk"):
        import ray.data
    if job.id_column is None:
        raise OptionError("rows have no numbers on a cluster: name a column of ids, id_column")
    validate.whole("num_cpus", num_cpus, at_least=1)
    least, most = (actors, actors) if isinstance(actors, int) else actors
    validate.whole("actors", least, at_least=1)
    validate.whole("actors", most, at_least=least)
    loading = {**job.loading, "threads": num_cpus, "low_memory": True}
    there = Path(job.folder)
    folder = there.absolute() if there.exists() else job.folder  # or a name on the hub
    return dataset.map_batches(
        ArrowWorker,
        fn_constructor_args=(dataclasses.replace(job, folder=folder, loading=loading),),
        batch_format="pyarrow",
        batch_size=job.rows_at_a_time,
        compute=ray.data.ActorPoolStrategy(min_size=least, max_size=most),
        num_cpus=num_cpus,
        udf_modifying_row_count=False,
    )


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
        import ray.data
    files = [Path(one) for one in ([source] if isinstance(source, str | os.PathLike) else source)]
    output = Path(target).absolute()
    notes = output.with_name(f"{output.name}.checkpoint")
    settings = {**RowWorker(job).settings, "rows": [_known(file) for file in files]}
    if not _goes_on(output, notes, settings, overwrite):
        _check_columns(files, job, check_ids)
        for folder in (output, notes):
            shutil.rmtree(folder, ignore_errors=True)
        notes.mkdir(parents=True)
        write_json(notes / _SETTINGS, settings)
    with _noting(notes / _IDS, job):
        parts = _read(files).repartition(target_num_rows_per_block=rows_per_file)
        rows = map_dataset(parts, job, actors=actors, num_cpus=num_cpus)
        rows.write_parquet(str(output), mode=ray.data.SaveMode.APPEND)
    count = int(ray.data.read_parquet(str(output)).count())
    write_json(output / _SUCCESS, {**settings, "count": count})
    shutil.rmtree(notes)
    return count


def in_order(
    folder: str | os.PathLike[str], id_column: str, *, parts: int | None = None
) -> ray.data.Dataset:
    """Read what `map_files` wrote, the rows in the order of their ids.

    Args:
        folder: where they lie.
        id_column: the column of ids.
        parts: how many blocks to sort into; None for one for each CPU of the cluster.

    Raises:
        MissingExtraError: the extra `bulk` is missing.
    """
    with needs_extra("bulk"):
        import ray.data
    rows = ray.data.read_parquet(os.fspath(folder))
    # Ray's own choice is 200, a task each, however few rows there are.
    parts = parts or max(1, int(ray.cluster_resources().get("CPU", 1)))
    rows.context.default_hash_shuffle_parallelism = parts
    return rows.sort(id_column)


def _read(files: Sequence[Path]) -> ray.data.Dataset:
    """Read Parquet. Of JSON lines Ray guesses types by pandas: "007" would be the number 7."""
    import ray.data

    if not all(is_parquet(file) for file in files):
        raise OptionError("a cluster reads Parquet; of other files make datasets, for map_dataset")
    return ray.data.read_parquet([str(file.absolute()) for file in files])


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
            names = set(pq.read_schema(file).names)
            _check_names(file, names, job)
            if unique:
                parts.append(pq.read_table(file, columns=[column])[column])
        except (OSError, pa.ArrowException) as error:
            raise OptionError(f"{file} cannot be read: {one_line(error)}") from None
    ids = pa.chunked_array([chunk for part in parts for chunk in part.chunks], *_type_of(parts))
    if ids.null_count:
        raise OptionError(f"{ids.null_count} rows have no {column!r}; every row needs one")
    if len(ids) != pc.count_distinct(ids).as_py():
        counted = pc.value_counts(ids)
        first = counted.filter(pc.greater(counted.field("counts"), 1))[0].as_py()
        raise OptionError(
            f"{first['counts']} rows have one {column!r}, {first['values']!r:.60}; ids have to be "
            "unique"
        )


def _type_of(parts: Sequence[pyarrow.ChunkedArray]) -> list[pyarrow.DataType]:
    import pyarrow as pa

    return [parts[0].type if parts else pa.string()]


def _check_names(file: Path, names: set[str], job: Job) -> None:
    known = ", ".join(sorted(names))
    for name in (job.id_column, job.text_column):
        if name not in names:
            raise OptionError(f"{file} has no column {name!r} ({known})")
    if taken := sorted(names & job.columns.keys()):
        raise OptionError(f"{file} has a column {taken[0]!r} already; set the job's prefix")


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
    import ray.data
    from ray.data.checkpoint import CheckpointConfig

    context = ray.data.DataContext.get_current()
    before = context.checkpoint_config
    config = CheckpointConfig(job.id_column, str(ids), delete_checkpoint_on_success=False)
    config.checkpoint_actor_memory_bytes = _FILTER_MEMORY  # a GiB each otherwise
    context.checkpoint_config = config
    try:
        yield
    finally:
        context.checkpoint_config = before
