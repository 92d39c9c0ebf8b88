"""Files of Parquet on one machine: types stay, kills do no harm, what does not fit is refused."""

from __future__ import annotations

import datetime
import json
from pathlib import Path
from typing import Any

import pytest

from pocketgpt import OptionError
from pocketgpt.bulk import Job, RowWorker, map_file
from pocketgpt.bulk.rows import Parquet

from .conftest import make_rows, write_parquet

COUNT = 300
OPTIONS = {"max_new_tokens": 2}


@pytest.fixture
def job(folder: Path) -> Job:
    loading = {"variant": "fp32", "threads": 1}
    return Job(folder, id_column="id", options=OPTIONS, loading=loading, batch_size=8)


def test_columns_keep_their_types_and_rows_their_order(job: Job, tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    day = datetime.date(2026, 1, 31)
    rows = [{**row, "day": day, "tags": ["a", None]} for row in make_rows(COUNT)]
    schema = pa.schema(
        {
            "id": pa.string(),
            "prompt": pa.large_string(),
            "number": pa.int16(),
            "day": pa.date32(),
            "tags": pa.list_(pa.string()),
        }
    )
    source = tmp_path / "rows.parquet"
    pq.write_table(pa.Table.from_pylist(rows, schema), source, row_group_size=70)
    found = map_file(job, source, tmp_path / "done.parquet")
    table = pq.read_table(tmp_path / "done.parquet")
    assert table.schema.names[:5] == schema.names
    assert [table.schema.field(name).type for name in schema.names] == schema.types
    assert [str(field.type) for field in table.schema][5:] == [
        "string",
        "string",
        "int64",
        "string",
    ]
    expected = RowWorker(job)(rows)
    assert table.to_pylist() == expected
    assert found.errors == sum(row["error"] is not None for row in expected) > 0
    # And as lines: what JSON has no word for as Python prints it.
    map_file(job, source, tmp_path / "done.jsonl")
    lines = [json.loads(line) for line in (tmp_path / "done.jsonl").read_text().splitlines()]
    assert lines == [{**row, "day": "2026-01-31"} for row in expected]


def test_lines_become_parquet(job: Job, tmp_path: Path) -> None:
    import pyarrow.parquet as pq

    rows: list[dict[str, Any]] = make_rows(COUNT)
    del rows[3]["number"]
    rows[4]["number"] = 0.5
    source = tmp_path / "rows.jsonl"
    source.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    map_file(job, source, tmp_path / "done.parquet")
    found = pq.read_table(tmp_path / "done.parquet")
    assert str(found.schema.field("number").type) == "double"
    assert found.to_pylist() == RowWorker(job)([{"number": None, **row} for row in rows])
    rows[5]["number"] = "five"
    source.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    with pytest.raises(OptionError, match=r"a column has several types .* write \.jsonl"):
        map_file(job, source, tmp_path / "mixed.parquet")
    assert not list(tmp_path.glob("mixed*"))


class StoppedError(Exception):
    pass


@pytest.mark.parametrize("stopped_at", [0, 64, 192])
def test_a_run_that_stopped_goes_on(job: Job, tmp_path: Path, stopped_at: int) -> None:
    source = write_parquet(tmp_path / "rows.parquet", make_rows(COUNT))
    whole, done = tmp_path / "whole.parquet", tmp_path / "done.parquet"
    map_file(job, source, whole)

    def stop(rows: int, count: int) -> None:
        if rows == stopped_at:
            raise StoppedError

    with pytest.raises(StoppedError):
        map_file(job, source, done, progress=stop)
    assert map_file(job, source, done).resumed == stopped_at
    assert done.read_bytes() == whole.read_bytes()


def test_rows_are_read_from_any_on(tmp_path: Path, folder: Path) -> None:
    rows = make_rows(1234)
    file = Parquet(write_parquet(tmp_path / "rows.parquet", rows))
    for start in (0, 1, 499, 500, 501, 1000, 1233, 1234, 2000):
        assert [*file.rows(start)] == rows[start:]


def test_what_is_no_parquet_is_refused(job: Job, tmp_path: Path) -> None:
    (tmp_path / "rows.parquet").write_text("id,prompt\n")
    with pytest.raises(OptionError, match=r"rows\.parquet cannot be read"):
        map_file(job, tmp_path / "rows.parquet", tmp_path / "done.parquet")
    rows = [{"id": 1, "prompt": "a"}, {"id": 1, "prompt": "b"}]
    source = write_parquet(tmp_path / "rows.parquet", rows)
    with pytest.raises(OptionError, match="rows 1 and 2 have one 'id', 1"):
        map_file(job, source, tmp_path / "done.parquet")
    empty = write_parquet(tmp_path / "empty.parquet", make_rows(1))
    import pyarrow.parquet as pq

    pq.write_table(pq.read_table(empty).slice(0, 0), empty)
    assert map_file(job, empty, tmp_path / "none.parquet").rows == 0
    assert pq.read_table(tmp_path / "none.parquet").num_rows == 0
