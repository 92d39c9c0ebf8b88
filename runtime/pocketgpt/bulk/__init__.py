"""One row in, one row out, for millions of them: `pocketgpt map`, Ray Data, Spark.

    job         what is done with every row, checked; a row's seed
    tasks       generate, score, classify, choose: rows to answers, errors row by row
    worker      loads the model once, answers rows; knows of no engine and of no file
    rows        files of rows: JSON lines, and Parquet (extra `bulk`)
    columns     answers as columns of Arrow, for Parquet and Ray
    journal     what is answered already, so that a run goes on where it was stopped
    mapping     a file to a file, on one machine
    on_ray      rows of a dataset, on a cluster (extra `bulk`)
    ray_files   files to files there

May import: errors, extras, validate, folder, text, engine, generation, tasks, measure, model.
"""

from typing import TYPE_CHECKING, Any

from .job import Job
from .mapping import Mapped, map_file
from .worker import RowWorker

if TYPE_CHECKING:
    from .on_ray import in_order, map_dataset
    from .ray_files import map_files

__all__ = ["Job", "Mapped", "RowWorker", "in_order", "map_dataset", "map_file", "map_files"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from . import on_ray, ray_files

    return getattr(ray_files if name == "map_files" else on_ray, name)
