"""Measure how long a program takes to its first output, in all, and how much memory.

    python examples/start_up.py [--rounds N] COMMAND...

Prints medians. The program starts anew every time, with an empty environment; Linux and macOS.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time


def run(command: list[str]) -> tuple[float, float, float]:
    """Return the seconds to the first byte of output and to the end, and the peak memory in MB."""
    begin = time.perf_counter()
    with subprocess.Popen(command, stdout=subprocess.PIPE, env={}) as process:
        assert process.stdout is not None
        process.stdout.read(1)
        first = time.perf_counter() - begin
        process.stdout.read()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{command[0]} ended with {process.returncode}")
    unit = 1 if sys.platform == "darwin" else 1024
    return first, time.perf_counter() - begin, usage.ru_maxrss * unit / 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("command", nargs=argparse.REMAINDER)
    given = parser.parse_args()
    run(given.command)  # files are in memory from here on
    rounds = [run(given.command) for _ in range(given.rounds)]
    first, whole, memory = (statistics.median(figure) for figure in zip(*rounds, strict=True))
    print(f"first output after {first:.2f} s, end after {whole:.2f} s, at most {memory:.0f} MB")


if __name__ == "__main__":
    main()
