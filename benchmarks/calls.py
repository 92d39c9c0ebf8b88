"""Asking a system's worker, a process in the system's own environment."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from systems.catalog import System
from systems.measuring import Plan

ROOT = Path(__file__).resolve().parents[1]
WORKER = ROOT / "benchmarks" / "systems" / "worker.py"
LONGEST_RUN = 900  # seconds
ERROR_CHARACTERS = 200


class WorkerError(Exception):
    """A system's worker failed; the message says why, in a line without this machine's paths."""


@dataclass(frozen=True)
class Job:
    """What is run, where its conversions lie, and what to measure."""

    checkpoint: Path
    folder: Path
    work: Path
    threads: int
    plan: Plan

    def command(self, system: System, doing: str) -> list[str]:
        """Return a worker's command line."""
        command = [system.python, WORKER, system.name, doing, "--kind", system.kind]
        command += ["--checkpoint", self.checkpoint, "--folder", self.folder]
        command += ["--work", self.work / system.name, "--threads", self.threads]
        command += ["--plan", json.dumps(self.plan.to_json()), "--started", time.time()]
        return list(map(str, command))

    def environment(self) -> dict[str, str]:
        """Return a worker's environment: so many threads, and no downloads."""
        threads = str(self.threads)
        return {**os.environ, "OMP_NUM_THREADS": threads, "HF_HUB_OFFLINE": "1"}

    def ask(self, system: System, doing: str) -> dict[str, Any]:
        """Run a worker; return its answer, the last line it printed.

        Raises:
            WorkerError: it failed.
        """
        found: dict[str, Any] = json.loads(self._run(system, doing).strip().splitlines()[-1])
        return found

    def prepare(self, system: System) -> None:
        """Convert the checkpoint by the system's own tool, unless that was done.

        Raises:
            WorkerError: it failed.
        """
        stamp = self.work / system.name / ".prepared"
        sources = (*self.checkpoint.glob("*.safetensors"), self.folder / "pocketgpt.json")
        state = json.dumps([source.stat().st_mtime_ns for source in sorted(sources)])
        if stamp.exists() and stamp.read_text("utf-8") == state:
            return
        self._run(system, "prepare")
        stamp.write_text(state, "utf-8")

    def _run(self, system: System, doing: str) -> str:
        if not system.python.exists():
            raise WorkerError("not installed here")
        try:
            done = subprocess.run(
                self.command(system, doing),
                capture_output=True,
                text=True,
                env=self.environment(),
                timeout=LONGEST_RUN,
            )
        except subprocess.TimeoutExpired:
            raise WorkerError(f"took longer than {LONGEST_RUN} seconds") from None
        if done.returncode:
            raise WorkerError(reason(done.returncode, done.stderr))
        return done.stdout


def reason(code: int, errors: str) -> str:
    """Say in a line why a process failed: what it printed last, or the signal that ended it."""
    if code < 0:
        return f"ended by {signal.Signals(-code).name}"
    last = (errors.strip().splitlines() or ["it printed nothing"])[-1].strip()
    return last.replace(f"{ROOT}/", "")[:ERROR_CHARACTERS]
