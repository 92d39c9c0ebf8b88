"""What is measured of an engine, whosever it is: seconds, memory, and the tokens that came out.

The first token's time is that of a run of one; a step's, what a run of more takes longer for each.
So systems that give no steps by hand are measured as all others are. Runs are done several times
and the fastest counts: the first of a length lays memory out. No text is timed twice
in a process, and none begins like another: some systems keep the keys and values of texts they
have seen, and would find them again. What each text gives is compared between processes.
"""

from __future__ import annotations

import os
import time
import zlib
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

FEW_STEPS, STEPS = 16, 64
IDLE_SECONDS = 3.0


@dataclass(frozen=True)
class Plan:
    """What to measure of a checkpoint.

    Attributes:
        first: prompt lengths whose first token is timed.
        steps: tokens in the cache when timed steps begin.
        job: tokens in and out of the whole job; None for no job.
        rows: how many texts at once.
        rows_prompt: tokens of each of them.
        repeats: of runs of one token, and of those that are some steps longer.
    """

    first: tuple[int, ...] = (32, 512, 1000)
    steps: tuple[int, ...] = (32, 512, 900)
    job: tuple[int, int] | None = (512, 128)
    rows: tuple[int, ...] = (8, 32)
    rows_prompt: int = 32
    repeats: int = 2

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON's types."""
        return asdict(self)


def ids_of(length: int, vocab_size: int, seed: int = 0) -> list[int]:
    """Return the same token ids for every system: a linear congruence over the vocabulary."""
    found, state = [], 12345 + seed
    for _ in range(length):
        state = (1103515245 * state + 12345) % 2**31
        found.append(256 + (state >> 8) % (vocab_size - 512))
    return found


class Timed:
    """An engine whose runs are timed and whose tokens are kept.

    Attributes:
        tokens: what came out of every text, by what it was for; all rows in one list.
    """

    def __init__(self, engine: Any, vocab_size: int, repeats: int = 1) -> None:
        self._engine, self._vocab_size, self._repeats = engine, vocab_size, repeats
        self.tokens: dict[str, list[int]] = {}

    def seconds(self, length: int, count: int, rows: int = 1, repeat: int = 0) -> float:
        """Make `count` tokens after `length` in each of some rows; return how long it took.

        Raises:
            ValueError: another number of tokens came out.
        """
        purpose = f"{rows} x {length} + {count}, {repeat}"
        seeds = (zlib.crc32(f"{purpose}, {row}".encode()) for row in range(rows))
        texts = [ids_of(length, self._vocab_size, seed) for seed in seeds]
        begin = time.perf_counter()
        made = self._engine.run(texts, count)
        took = time.perf_counter() - begin
        if [len(tokens) for tokens in made] != [count] * rows:
            raise ValueError(f"of {count} tokens a row it made {[len(row) for row in made]}")
        self.tokens[purpose] = [int(token) for row in made for token in row]
        return took

    def first(self, length: int, rows: int = 1) -> float:
        """Return the seconds to the first token."""
        return min(self.seconds(length, 1, rows, repeat) for repeat in range(self._repeats))

    def step(self, length: int, first: float, rows: int = 1) -> float:
        """Return the seconds of a step after the first token."""
        steps = STEPS if rows == 1 else FEW_STEPS
        repeats = range(self._repeats)
        whole = min(self.seconds(length, steps + 1, rows, repeat) for repeat in repeats)
        return (whole - first) / steps


def measure_speed(engine: Any, plan: Plan, vocab_size: int) -> dict[str, Any]:
    """Return the seconds of everything in the plan, and the tokens of all texts."""
    timed, found = Timed(engine, vocab_size, plan.repeats), dict[str, float]()
    firsts = {n: timed.first(n) for n in sorted({*plan.first, *plan.steps})}
    for length in plan.steps:
        found[f"step after {length}"] = timed.step(length, firsts[length])
    found |= {f"first token of {length}": firsts[length] for length in plan.first}
    if plan.job:
        length, count = plan.job
        found[f"{length} in, {count} out"] = timed.seconds(length, count)
    for rows in plan.rows if getattr(engine, "batches", True) else ():
        first = timed.first(plan.rows_prompt, rows)
        found[f"step of {rows} rows"] = timed.step(plan.rows_prompt, first, rows)
    return {"seconds": found, "tokens": timed.tokens}


def measure_memory(engine: Any, plan: Plan, vocab_size: int) -> dict[str, Any]:
    """Do the job once; return the memory that took, and the processor time of doing nothing then.

    Bytes: `peak` of what was resident, and `anonymous` at the end, which no file backs. `idle` is
    processor seconds a second. Where the system says nothing of processes (`/proc`), tokens alone.
    """
    timed = Timed(engine, vocab_size)
    length, count = plan.job or (max(plan.first), 1)
    timed.seconds(length, count)
    process = Path("/proc") / str(getattr(engine, "pid", os.getpid()))
    if not (process / "status").exists():
        return {"tokens": timed.tokens}
    lines = (process / "status").read_text("ascii", "replace").splitlines()
    sizes = {line.split(":")[0]: line.split()[1] for line in lines if line.endswith(" kB")}
    before = _processor_seconds(process)
    time.sleep(IDLE_SECONDS)
    return {
        "peak": 1024 * int(sizes["VmHWM"]),
        "anonymous": 1024 * int(sizes["RssAnon"]),
        "idle": (_processor_seconds(process) - before) / IDLE_SECONDS,
        "tokens": timed.tokens,
    }


def _processor_seconds(process: Path) -> float:
    fields = (process / "stat").read_text("ascii", "replace").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
