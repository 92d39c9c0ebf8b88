"""Answer the rows of a Parquet file with Spark: python examples/spark.py FOLDER IN OUT.

IN has the columns `id` and `prompt`. Takes pyspark and a Java. Spark's `predict_batch_udf` makes a
worker, and loads its model, once in each Python process; Spark itself sees to retries, and to what
is done of a job. Seeds come from ids: what a row gets does not depend on where it is computed.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from pyspark.ml.functions import predict_batch_udf
from pyspark.sql import SparkSession
from pyspark.sql.types import LongType, StringType, StructField, StructType

from pocketgpt.bulk import Job, RowWorker

Predict = Callable[[Any, Any], dict[str, Any]]
ANSWER = StructType(
    [
        StructField("completion", StringType()),
        StructField("finish_reason", StringType()),
        StructField("new_tokens", LongType()),
        StructField("error", StringType()),
    ]
)


def answering(job: Job) -> Callable[[], Predict]:
    """Return what Spark calls in each of its processes."""

    def load() -> Predict:
        worker = RowWorker(job)

        def answer(ids: Any, prompts: Any) -> dict[str, Any]:
            rows = zip(ids.tolist(), prompts.tolist(), strict=True)
            # A null comes as pandas has it: None, or a number that is none.
            found = worker.answers(
                {"id": own, "prompt": prompt if isinstance(prompt, str) else None}
                for own, prompt in rows
            )
            # By column: of rows Spark refuses a null in the first.
            return {
                name: np.array([one[name] for one in found], dtype=object) for name in ANSWER.names
            }

        return answer

    return load


def main() -> None:
    """Read, answer, write; the rows of OUT are in the order of their ids."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder")
    parser.add_argument("source")
    parser.add_argument("target")
    parser.add_argument("--max-new-tokens", type=int, default=8)
    parser.add_argument("--sample", action="store_true")
    given = parser.parse_args()
    options = {"max_new_tokens": given.max_new_tokens, "do_sample": given.sample}
    # A thread for each of Spark's tasks, which has one CPU.
    loading = {"variant": "fp32", "threads": 1, "low_memory": True}
    folder = Path(given.folder).absolute()
    job = Job(folder, id_column="id", options=options, loading=loading)
    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
    spark = SparkSession.builder.master("local[2]").appName("PocketGPT").getOrCreate()
    try:
        answer = predict_batch_udf(
            answering(job), return_type=ANSWER, batch_size=job.rows_at_a_time
        )
        rows = spark.read.parquet(given.source).repartition(4)
        found = rows.withColumn("answer", answer("id", "prompt"))
        found.select(*rows.columns, "answer.*").orderBy("id").write.parquet(given.target)
    finally:
        spark.stop()


if __name__ == "__main__":
    main()
