"""What a user runs on a cluster, as a process that can be killed: ADDRESS SOURCE TARGET JOB."""

from __future__ import annotations

import json
import sys

import ray

from pocketgpt.bulk import Job, map_files


def main(address: str, source: str, target: str, job: str) -> None:
    """Answer rows by two actors."""
    ray.init(address=address, log_to_driver=False)
    ray.data.DataContext.get_current().enable_progress_bars = False
    count = map_files(Job(**json.loads(job)), source, target, actors=2, rows_per_file=100)
    print(f"{count} rows")


if __name__ == "__main__":
    main(*sys.argv[1:])
