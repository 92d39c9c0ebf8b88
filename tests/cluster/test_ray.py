"""Jobs on a cluster: every task as on one machine, weights shared, what is refused."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pocketgpt import OptionError
from pocketgpt.bulk import Job, RowWorker, map_dataset, map_files, ray_files

from .conftest import MEMORY, make_rows, write_parquet

pytestmark = pytest.mark.filterwarnings("default")  # Ray has some of its own
LOADING = {"variant": "fp32", "threads": 1}
OPTIONS = {"max_new_tokens": 4}
COUNT = 120


@pytest.fixture(scope="module")
def ray(folder: Path) -> Iterator[Any]:
    """Ray, of two CPUs in one node."""
    import ray

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        quiet = {"include_dashboard": False, "log_to_driver": False}
        ray.init(address="local", num_cpus=3, object_store_memory=MEMORY, **quiet)
        ray.data.DataContext.get_current().enable_progress_bars = False
        try:
            yield ray
        finally:
            ray.shutdown()


@pytest.mark.parametrize("task", ["generate", "score", "choose"])
def test_every_task_is_what_it_is_on_one_machine(ray: Any, folder: Path, task: Any) -> None:
    rows = [{**row, "choices": [" and", " a cat"]} for row in make_rows(COUNT)]
    options = {"max_new_tokens": 4, "do_sample": True} if task == "generate" else {}
    job = Job(folder, task, "prompt", "id", options, loading=LOADING, batch_size=4)
    dataset = ray.data.from_items(rows).repartition(3)
    found = map_dataset(dataset, job, actors=(1, 2)).take_all()
    # Weights that are used where they lie give logits with other last digits.
    same = dataclasses.replace(job, loading={**LOADING, "low_memory": True})
    assert sorted(found, key=lambda row: str(row["id"])) == RowWorker(same)(rows)


class Mapped:
    """What files a process maps that has the model loaded."""

    def __init__(self, job: Job) -> None:
        self._worker = RowWorker(job)
        self._worker.model  # noqa: B018

    def __call__(self, batch: Any) -> Any:
        import os

        lines = Path("/proc/self/maps").read_text().splitlines()
        files = sorted({Path(line.split()[-1]).name for line in lines if "/" in line})
        weights = [name for name in files if name.startswith("model.onnx")]
        return {"pid": [os.getpid()], "weights": [" ".join(weights)]}


def test_weights_lie_in_memory_once_a_node(ray: Any, folder: Path) -> None:
    """Two processes map the file, which is what the system then keeps one copy of."""
    job = Job(folder, id_column="id", options=OPTIONS, loading={**LOADING, "low_memory": True})
    rows = ray.data.range(2).repartition(2)
    maps = rows.map_batches(Mapped, fn_constructor_args=(job,), concurrency=2, batch_size=1)
    found = maps.take_all()
    assert {row["weights"] for row in found} == {"model.onnx_data"}


def test_what_is_there_is_not_replaced_unasked(ray: Any, folder: Path, tmp_path: Path) -> None:
    import pyarrow.parquet as pq

    job = Job(folder, id_column="id", options=OPTIONS, loading=LOADING)
    rows = make_rows(COUNT)
    half = [write_parquet(tmp_path / "a.parquet", rows[:60])]
    half.append(write_parquet(tmp_path / "b.parquet", rows[60:]))
    target = tmp_path / "answers"
    assert map_files(job, half, target, rows_per_file=50) == COUNT
    found = sorted(pq.read_table(target).to_pylist(), key=lambda row: str(row["id"]))
    assert found == RowWorker(job)(rows)
    with pytest.raises(OptionError, match=r"answers is complete; name another folder"):
        map_files(job, half, target)
    assert ray.data.DataContext.get_current().checkpoint_config is None
    (target / "_SUCCESS").unlink()
    with pytest.raises(OptionError, match=r"exists, and no answers\.checkpoint beside it"):
        map_files(job, half, target)
    other = dataclasses.replace(job, options={"max_new_tokens": 1})
    assert map_files(other, half[0], target, overwrite=True) == 60
    assert pq.read_table(target).num_rows == 60


def test_a_run_that_died_with_its_work_done_ends_it(
    ray: Any, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import pyarrow.parquet as pq

    job = Job(folder, id_column="id", options=OPTIONS, loading=LOADING)
    for count in (COUNT, 0):
        source = write_parquet(tmp_path / f"{count}.parquet", make_rows(COUNT))
        pq.write_table(pq.read_table(source).slice(0, count), source)
        target = tmp_path / f"answers-{count}"
        monkeypatch.setattr(ray_files, "_SUCCESS", "no folder/_SUCCESS")
        with pytest.raises(FileNotFoundError):
            map_files(job, source, target)
        monkeypatch.undo()
        assert map_files(job, source, target) == count
        files = [pq.read_table(file) for file in target.glob("*.parquet")]
        found = [row for file in files for row in file.to_pylist()]
        assert sorted(found, key=lambda row: str(row["id"])) == RowWorker(job)(make_rows(count))


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([{"id": 1, "prompt": "a"}, {"id": 1, "prompt": "b"}], "2 rows have one 'id', 1; ids"),
        ([{"id": "a", "prompt": "a"}, {"id": None, "prompt": "b"}], "1 rows have no 'id'"),
        ([{"id": 1, "text": "a"}], r"no column 'prompt' \(id, text\)"),
        ([{"number": 1, "prompt": "a"}], r"no column 'id' \(number, prompt\)"),
        ([{"id": 0.5, "prompt": "a"}], "should be strings or whole numbers, not double"),
        ([{"id": 1, "prompt": "a", "error": "b"}], "a column 'error' already"),
    ],
)
def test_rows_that_do_not_fit_are_refused_before_the_work(
    folder: Path, tmp_path: Path, rows: list[dict[str, Any]], message: str
) -> None:
    job = Job(folder, id_column="id", options=OPTIONS, loading=LOADING)
    source = write_parquet(tmp_path / "rows.parquet", rows)
    with pytest.raises(OptionError, match=message):
        map_files(job, source, tmp_path / "answers")
    assert [path.name for path in tmp_path.iterdir()] == ["rows.parquet"]


def test_wrong_calls_are_refused(ray: Any, folder: Path, tmp_path: Path) -> None:
    job = Job(folder, id_column="id", options=OPTIONS, loading=LOADING)
    rows = ray.data.from_items(make_rows(2))
    with pytest.raises(OptionError, match="name a column of ids"):
        map_dataset(rows, dataclasses.replace(job, id_column=None))
    for wrong in ({"actors": 0}, {"actors": (2, 1)}, {"num_cpus": 0}):
        with pytest.raises(OptionError, match="should be a whole number"):
            map_dataset(rows, job, **wrong)
    (tmp_path / "rows.jsonl").write_text('{"id": 1, "prompt": "a"}\n')
    with pytest.raises(OptionError, match="a cluster reads Parquet"):
        map_files(job, tmp_path / "rows.jsonl", tmp_path / "answers")
    with pytest.raises(OptionError, match=r"none\.parquet cannot be read"):
        map_files(job, tmp_path / "none.parquet", tmp_path / "answers")
