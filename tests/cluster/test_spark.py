"""The example for Spark, run with Spark's own local cluster."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from pocketgpt.bulk import Job, RowWorker

from ..conftest import ROOT
from .conftest import make_rows, write_parquet

pytest.importorskip("pyspark", reason="run by `make test-bulk`")


@pytest.mark.skipif(shutil.which("java") is None, reason="Spark takes a Java of 17 or newer")
@pytest.mark.parametrize("sampled", [False, True], ids=["greedy", "sampled"])
def test_rows_are_what_they_are_on_one_machine(folder: Path, tmp_path: Path, sampled: bool) -> None:
    import pyarrow.parquet as pq

    rows = make_rows(400)
    source = write_parquet(tmp_path / "rows.parquet", rows)
    script = str(ROOT / "examples" / "spark.py")
    command = [sys.executable, script, str(folder), str(source), str(tmp_path / "answers")]
    flags = ["--sample"] if sampled else []
    local = {**os.environ, "SPARK_LOCAL_IP": "127.0.0.1", "SPARK_LOCAL_DIRS": str(tmp_path)}
    done = subprocess.run(
        [*command, *flags], env=local, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr[-4000:]
    options = {"max_new_tokens": 8, "do_sample": sampled}
    loading = {"variant": "fp32", "threads": 1}
    job = Job(folder, id_column="id", options=options, loading=loading)
    files = sorted((tmp_path / "answers").glob("*.parquet"))
    found = [row for file in files for row in pq.read_table(file).to_pylist()]
    assert found == RowWorker(job)(rows)
