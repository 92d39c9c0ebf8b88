"""Rows a second: by one process of one thread, and by one and two actors of Ray with a thread each.

    python benchmarks/bulk.py FOLDER[@VARIANT]... [--rows N] [--tokens N] [--rounds N] [--write P]

The first folder goes through all three, which take turns; the others through one process alone.
Medians count. A rate is that of the rows between a quarter and 85% of all: before, actors start,
and towards the end one has nothing left to do. --write puts the tables into a page, between its
marks, with what a million and a billion rows take at that rate. Takes the extra `bulk`.
"""

from __future__ import annotations

import argparse
import os
import random
import statistics
import tempfile
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")

import ray
from machine import described

from pocketgpt.bulk import Job, RowWorker, map_dataset, map_file

WORDS = "the cat sat on a mat and looked at the big red dog while rain fell".split()  # noqa: SIM905
BEGIN, END = "<!-- measured -->", "<!-- /measured -->"
FIRST, LAST = 0.25, 0.85  # of the rows, between which is measured
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


def alone(job: Job, rows: list[dict[str, Any]]) -> Rate:
    """Answer rows in this process, as `pocketgpt map` does."""
    worker = RowWorker(job)
    worker(rows[:2])

    def arrivals() -> Iterator[tuple[float, int, int]]:
        for start in range(0, len(rows), job.rows_at_a_time):
            found = worker.answers(rows[start : start + job.rows_at_a_time])
            yield time.perf_counter(), len(found), sum(one["new_tokens"] for one in found)

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


def check_map(job: Job, folder: Path) -> None:
    """Answer a few rows by the public verb's function, so that what is measured is what runs."""
    (folder / "rows.jsonl").write_text('{"id": 0, "prompt": "Once"}\n')
    assert map_file(job, folder / "rows.jsonl", folder / "done.jsonl").errors == 0


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


def measure(names: list[str], count: int, tokens: int, rounds: int) -> dict[str, Rate]:
    """Return the median rate of each way, by what the table calls it."""
    rows, first = make_rows(count), job_of(names[0], tokens)
    found: dict[str, list[Rate]] = {}
    for _ in range(rounds):
        found.setdefault("one process", []).append(alone(first, rows))
        for actors in (1, 2):
            name = f"Ray, {actors} actor{'s' if actors > 1 else ''}"
            found.setdefault(name, []).append(on_ray(first, rows, actors))
    for name in names[1:]:
        few = rows[: max(count // 8, 4 * first.rows_at_a_time)]
        label = f"one process, {Path(name).name}"
        found[label] = [alone(job_of(name, tokens), few) for _ in range(rounds)]
    return {
        name: Rate(
            statistics.median(one.rows for one in each),
            statistics.median(one.tokens for one in each),
        )
        for name, each in found.items()
    }


def tables(found: dict[str, Rate], names: list[str], tokens: int) -> str:
    """Return the two tables in Markdown."""
    one = found["Ray, 1 actor"].rows
    lines = ["| | rows/s | new tokens/s | to one actor |", "|---|---|---|---|"]
    for name in ("one process", "Ray, 1 actor", "Ray, 2 actors"):
        rate = found[name]
        lines.append(f"| {name} | {rate.rows:.1f} | {rate.tokens:.0f} | {rate.rows / one:.2f} |")
    head = "| model | new tokens/s, a core | a million rows | a billion rows |"
    lines += ["", head, "|---|---|---|---|"]
    whole = [Path(names[0]).name, *(Path(name).name for name in names[1:])]
    rates = [found["Ray, 2 actors"].tokens / 2]
    rates += [found[f"one process, {name}"].tokens for name in whole[1:]]
    for name, rate_each in zip(whole, rates, strict=True):
        costs = [count * tokens / rate_each / 3600 for count in (1_000_000, 1_000_000_000)]
        said = [f"{hours:,.0f} core hours, {hours * PRICE:,.2f} $" for hours in costs]
        lines.append(f"| {name} | {rate_each:.0f} | {' | '.join(said)} |")
    machine = described(1)
    lines += ["", f"{machine['processor']}, {machine['cores']} cores, {machine['date']}."]
    return "\n".join(lines)


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folders", nargs="+", metavar="FOLDER[@VARIANT]")
    parser.add_argument("--rows", type=int, default=2560)
    parser.add_argument("--tokens", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--write", type=Path, metavar="PAGE")
    given = parser.parse_args()
    ray.init(
        address="local", num_cpus=4, object_store_memory=100 * 2**20, include_dashboard=False,
        log_to_driver=False,
    )  # fmt: skip
    ray.data.DataContext.get_current().enable_progress_bars = False
    try:
        with tempfile.TemporaryDirectory() as scratch:
            check_map(job_of(given.folders[0], given.tokens), Path(scratch))
        found = measure(given.folders, given.rows, given.tokens, given.rounds)
    finally:
        ray.shutdown()
    text = tables(found, given.folders, given.tokens)
    print(text)
    if given.write:
        before, _, rest = given.write.read_text("utf-8").partition(BEGIN)
        after = rest.partition(END)[2]
        given.write.write_text(f"{before}{BEGIN}\n{text}\n{END}{after}", "utf-8")


if __name__ == "__main__":
    main()
