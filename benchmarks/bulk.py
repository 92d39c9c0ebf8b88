"""Rows a second by one and two actors of Ray, a thread each; what a million rows cost.

    python benchmarks/bulk.py FOLDER[@VARIANT]... [--rows N] [--tokens N] [--rounds N] [--write P]

The first folder goes through one process and one and two actors, which take turns, by the clock on
the wall: it takes two idle cores, and --alone leaves it out. What rows cost is reckoned from new
tokens a second of processor time, of each folder in one process of one thread. Medians count. A
rate is that of the rows between a quarter and 85% of all: before, actors start, and towards the end
one has nothing left to do. --write puts the tables into a page, between its marks. Takes the extra
`bulk`.
"""

from __future__ import annotations

import argparse
import os
import random
import statistics
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")

import ray
from machine import described

from pocketgpt.bulk import Job, RowWorker, map_dataset

WORDS = "the cat sat on a mat and looked at the big red dog while rain fell".split()  # noqa: SIM905
BEGIN, END = "<!-- measured -->", "<!-- /measured -->"
FIRST, LAST = 0.25, 0.85  # of the rows, between which is measured
QUIET = {"include_dashboard": False, "log_to_driver": False}
PRICE = 0.04  # dollars for an hour of a core: an example


@dataclass(frozen=True)
class Rate:
    """Rows, and new tokens, a second."""

    rows: float
    tokens: float


def rate_of(arrivals: Iterable[tuple[float, int, int]], count: int) -> Rate:
    """Return the rate of the middle of a run: of (seconds, rows, new tokens) as they came."""
    began: tuple[float, int, int] | None = None
    rows = tokens = 0
    for now, more, new in arrivals:
        rows, tokens = rows + more, tokens + new
        if began is None and rows >= count * FIRST:
            began = now, rows, tokens
        elif began is not None and rows >= count * LAST:
            seconds = now - began[0]
            return Rate((rows - began[1]) / seconds, (tokens - began[2]) / seconds)
    raise SystemExit("too few rows to measure: more --rows")


def alone(job: Job, rows: list[dict[str, Any]], clock: Callable[[], float]) -> Rate:
    """Answer rows in this process, as `pocketgpt map` does; `clock` gives seconds."""
    worker = RowWorker(job)
    worker(rows[:2])

    def arrivals() -> Iterator[tuple[float, int, int]]:
        for start in range(0, len(rows), job.rows_at_a_time):
            found = worker.answers(rows[start : start + job.rows_at_a_time])
            yield clock(), len(found), sum(one["new_tokens"] for one in found)

    return rate_of(arrivals(), len(rows))


def on_ray(job: Job, rows: list[dict[str, Any]], actors: int) -> Rate:
    """Answer rows by actors on this machine."""
    blocks = len(rows) // job.rows_at_a_time
    dataset = map_dataset(ray.data.from_items(rows, override_num_blocks=blocks), job, actors=actors)

    def arrivals() -> Iterator[tuple[float, int, int]]:
        for table in dataset.iter_batches(
            batch_size=None, batch_format="pyarrow", prefetch_batches=0
        ):
            yield time.perf_counter(), table.num_rows, sum(table["new_tokens"].to_pylist())

    return rate_of(arrivals(), len(rows))


def job_of(name: str, tokens: int) -> Job:
    """Return the job of FOLDER[@VARIANT], one thread, EOS ignored."""
    folder, _, variant = name.partition("@")
    options = {"max_new_tokens": tokens, "eos_token_id": []}
    loading = {"variant": variant or "fp32", "threads": 1, "low_memory": True}
    return Job(folder, id_column="id", options=options, loading=loading, batch_size=16)


def make_rows(count: int) -> list[dict[str, Any]]:
    """Return rows of prompts of 8 to 24 words."""
    drawn = random.Random(1)
    texts = (" ".join(drawn.choices(WORDS, k=drawn.randint(8, 24))) for _ in range(count))
    return [{"id": number, "prompt": text} for number, text in enumerate(texts)]


def median(rates: list[Rate]) -> Rate:
    """Return the median of rates."""
    return Rate(
        statistics.median(one.rows for one in rates), statistics.median(one.tokens for one in rates)
    )


def scaling(name: str, count: int, tokens: int, rounds: int) -> str:
    """Return a table of rows a second by one process and by one and two actors."""
    rows, job = make_rows(count), job_of(name, tokens)
    found: dict[str, list[Rate]] = {}
    for _ in range(rounds):
        found.setdefault("one process", []).append(alone(job, rows, time.perf_counter))
        found.setdefault("Ray, 1 actor", []).append(on_ray(job, rows, 1))
        found.setdefault("Ray, 2 actors", []).append(on_ray(job, rows, 2))
    one = median(found["Ray, 1 actor"]).rows
    lines = ["| | rows/s | new tokens/s | to one actor |", "|---|---|---|---|"]
    for way, rate in ((way, median(rates)) for way, rates in found.items()):
        lines.append(f"| {way} | {rate.rows:.1f} | {rate.tokens:.0f} | {rate.rows / one:.2f} |")
    return "\n".join(lines)


def costs(names: list[str], count: int, tokens: int, rounds: int) -> str:
    """Return a table of what a million and a billion rows take."""
    head = "| model | new tokens/s of a core | a million rows | a billion rows |"
    lines = [head, "|---|---|---|---|"]
    for name in names:
        job = job_of(name, tokens)
        rows = make_rows(max(count // 4, 4 * job.rows_at_a_time))
        rate = median([alone(job, rows, time.process_time) for _ in range(rounds)]).tokens
        hours = [many * tokens / rate / 3600 for many in (1_000_000, 1_000_000_000)]
        said = [f"{each:,.1f} core hours, {each * PRICE:,.2f} $" for each in hours]
        model = f"{Path(job.folder).name}, {job.loading['variant']}"
        lines.append(f"| {model} | {rate:.0f} | {' | '.join(said)} |")
    return "\n".join(lines)


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folders", nargs="+", metavar="FOLDER[@VARIANT]")
    parser.add_argument("--rows", type=int, default=2560)
    parser.add_argument("--tokens", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--alone", action="store_true", help="without Ray: no idle cores needed")
    parser.add_argument("--write", type=Path, metavar="PAGE")
    given = parser.parse_args()
    settings = given.rows, given.tokens, given.rounds
    parts = [costs(given.folders, *settings)]
    if not given.alone:
        ray.init(address="local", num_cpus=4, object_store_memory=100 * 2**20, **QUIET)
        ray.data.DataContext.get_current().enable_progress_bars = False
        try:
            parts.insert(0, scaling(given.folders[0], *settings))
        finally:
            ray.shutdown()
    machine = described(1)
    parts.append(f"{machine['processor']}, {machine['cores']} cores, {machine['date']}.")
    text = "\n\n".join(parts)
    print(text)
    if given.write:
        before, _, rest = given.write.read_text("utf-8").partition(BEGIN)
        after = rest.partition(END)[2]
        given.write.write_text(f"{before}{BEGIN}\n{text}\n{END}{after}", "utf-8")


if __name__ == "__main__":
    main()
