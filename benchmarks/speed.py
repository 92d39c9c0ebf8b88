"""How fast each system runs GPT-2, side by side; `report.py` writes down what was found.

    python benchmarks/speed.py OUT [--quick] [--large] [--rounds N] [--threads N]
                                   [--only LABEL]... [--checkpoint NAME]... [--resume]

Every system converts the checkpoints by its own tool, once, and runs in an environment of its own
(`make bench` makes them and the checkpoints). It gets the same token ids, makes as many tokens,
greedily, with as many threads. Every run is a process of its own; systems take turns, round by
round. Memory and quality are measured after the rounds, once. Each run goes into OUT/runs.jsonl as
soon as it has ended: `--resume` does what is not there yet.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import machine
from calls import ROOT, Job, WorkerError
from peers import Quality
from runs import MACHINE, Run, Runs
from systems.catalog import SYSTEMS, System
from systems.measuring import Plan

from pocketgpt import PocketGPTError


@dataclass(frozen=True)
class Checkpoint:
    """What is run: a Hugging Face checkpoint and its model folder, both below the repository.

    Attributes:
        memory: whether memory is measured, too.
        quality: whether perplexity is: its weights are no noise.
    """

    checkpoint: str
    folder: str
    plan: Plan
    memory: bool = False
    quality: bool = False

    def job(self, work: Path, threads: int) -> Job:
        """Return what workers are told."""
        return Job(ROOT / self.checkpoint, ROOT / self.folder, work, threads, self.plan)


BUNDLED = Plan((32, 256, 480), (32, 256, 432), (256, 128), repeats=4)
CHECKPOINTS = {
    "gpt2": Checkpoint("build/gpt2-checkpoint", "build/gpt2", Plan(), memory=True),
    "pocket-tales": Checkpoint("models/pocket-tales", "build/pocket-tales", BUNDLED, quality=True),
    "gpt2-medium": Checkpoint(
        "build/gpt2-medium-checkpoint", "build/gpt2-medium", Plan(rows=(8,)), memory=True
    ),
}
DAILY, LARGE = ("gpt2", "pocket-tales"), "gpt2-medium"
QUICK = {"gpt2": Checkpoint("build/gpt2-checkpoint", "build/gpt2", Plan((512,), (512,), None, ()))}


@dataclass(frozen=True)
class Bench:
    """The systems on the checkpoints, and what was found so far."""

    systems: list[System]
    checkpoints: dict[str, Checkpoint]
    runs: Runs
    work: Path
    threads: int

    def prepare(self) -> None:
        """Convert every checkpoint by every system; note for its rows where that failed."""
        for name, checkpoint in self.checkpoints.items():
            for module in dict.fromkeys(system.name for system in self.systems):
                own = [one for one in self.systems if one.name == module]
                if not own:
                    continue
                say(f"{name}: preparing {module}")
                error = None
                try:
                    self._job(name, checkpoint).prepare(own[0])
                except WorkerError as reason:
                    error = str(reason)
                for system in own:
                    self.runs.add(Run(name, system.label, "prepare", error=error))

    def measure_speed(self, rounds: int) -> None:
        """Let the systems take turns."""
        for number in range(rounds):
            if not self.runs.done("", MACHINE, "bandwidth", number):
                found = machine.bandwidth(self.threads)
                self.runs.add(Run("", MACHINE, "bandwidth", number, found))
            for name, checkpoint in self.checkpoints.items():
                ask = self._job(name, checkpoint).ask
                for system in self._ready(name):
                    self._once(name, system, "speed", partial(ask, system, "speed"), number)

    def measure_memory(self) -> None:
        """Let each system do the job in a process of its own."""
        for name, checkpoint in self.checkpoints.items():
            ask = self._job(name, checkpoint).ask
            for system in self._ready(name) if checkpoint.memory else ():
                self._once(name, system, "memory", partial(ask, system, "memory"))

    def measure_quality(self) -> None:
        """Let each system predict the evaluation text."""
        for name, checkpoint in self.checkpoints.items():
            job = self._job(name, checkpoint)
            with tempfile.TemporaryDirectory() as scratch:
                quality = Quality(job.folder, Path(scratch))
                for system in self._ready(name) if checkpoint.quality else ():
                    if not system.files_of:
                        self._once(name, system, "quality", partial(quality.of, job, system))

    def _job(self, name: str, checkpoint: Checkpoint) -> Job:
        return checkpoint.job(self.work / name, self.threads)

    def _ready(self, name: str) -> Iterator[System]:
        """Yield the systems that have not failed, as they are when their turn comes."""
        for system in self.systems:
            if self.runs.error(name, system.label) is None:
                yield system

    def _once(
        self, name: str, system: System, doing: str, ask: Callable[[], Any], number: int = 0
    ) -> None:
        if self.runs.done(name, system.label, doing, number):
            return
        say(f"{name}: {doing} of {system.label}, round {number + 1}")
        try:
            run = Run(name, system.label, doing, number, found=ask())
        except (PocketGPTError, ValueError, WorkerError) as error:
            run = Run(name, system.label, doing, number, error=str(error))
        self.runs.add(run)


def say(what: str) -> None:
    """Follow the benchmark on standard error."""
    print(what, file=sys.stderr, flush=True)


def parsed() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--quick", action="store_true", help="GPT-2's shape, once, few figures")
    parser.add_argument("--large", action="store_true", help="gpt2-medium's shape as well")
    parser.add_argument("--rounds", type=int, help="3, or 1 with --quick")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--only", action="append", help="a part of a label; may be repeated")
    parser.add_argument("--checkpoint", action="append", choices=[*CHECKPOINTS])
    parser.add_argument("--resume", action="store_true", help="do what OUT/runs.jsonl has not")
    return parser.parse_args()


def opened(path: Path, resume: bool, threads: int) -> Runs:
    """Return the runs to go on with, or none yet, and this machine among them.

    Raises:
        SystemExit: those to go on with are of another machine, or other threads.
    """
    if not resume:
        path.unlink(missing_ok=True)
    runs, here = Runs(path), machine.described(threads)
    runs.forget_errors()
    for known in runs.of("", MACHINE, "described"):
        if any(known[name] != here[name] for name in ("processor", "cores", "threads")):
            raise SystemExit(f"{path} holds runs of another machine; begin anew, without --resume")
    if not runs.done("", MACHINE, "described"):
        runs.add(Run("", MACHINE, "described", found=here))
    return runs


def main() -> None:
    arguments = parsed()
    out = arguments.out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    chosen = arguments.checkpoint or [*DAILY, *([LARGE] if arguments.large else [])]
    checkpoints = QUICK if arguments.quick else {name: CHECKPOINTS[name] for name in chosen}
    wanted = arguments.only or [""]
    systems = [system for system in SYSTEMS if any(part in system.label for part in wanted)]
    runs = opened(out / "runs.jsonl", arguments.resume, arguments.threads)
    bench = Bench(systems, checkpoints, runs, out / "work", arguments.threads)
    bench.prepare()
    bench.measure_speed(arguments.rounds or (1 if arguments.quick else 3))
    bench.measure_memory()
    bench.measure_quality()


if __name__ == "__main__":
    main()
