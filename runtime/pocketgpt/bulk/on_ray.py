"""Datasets on a Ray cluster: a pool of actors, each with the model."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from .. import validate
from ..errors import OptionError
from ..extras import needs_extra
from .columns import added
from .job import Job
from .worker import RowWorker

if TYPE_CHECKING:
    import pyarrow
    import ray.data


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
    least, most = pool_of(job, actors, num_cpus)
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
    with plain_reading():
        rows = ray.data.read_parquet(os.fspath(folder))
    # Ray's own choice is 200, a task each, however few rows there are.
    parts = parts or max(1, int(ray.cluster_resources().get("CPU", 1)))
    rows.context.default_hash_shuffle_parallelism = parts
    return rows.sort(id_column)


@contextmanager
def plain_reading() -> Iterator[ray.data.DataContext]:
    """Let datasets that are made inside read Parquet by a task a file.

    Ray's newer way, its default since 2.60, starts 32 processes to read the footers of files,
    however few there are: more than a small cluster bears, and next to computing no gain.

    Yields:
        The context of these datasets.
    """
    import ray.data

    context = ray.data.DataContext.get_current()
    before = context.use_datasource_v2
    context.use_datasource_v2 = False
    try:
        yield context
    finally:
        context.use_datasource_v2 = before


def pool_of(job: Job, actors: int | tuple[int, int], num_cpus: int) -> tuple[int, int]:
    """Return the fewest and the most actors.

    Raises:
        OptionError: the job has no column of ids, or a number is out of range.
    """
    if job.id_column is None:
        raise OptionError("rows have no numbers on a cluster: name a column of ids, id_column")
    validate.whole("num_cpus", num_cpus, at_least=1)
    least, most = (actors, actors) if isinstance(actors, int) else actors
    least = validate.whole("actors", least, at_least=1)
    return least, validate.whole("actors", most, at_least=least)
