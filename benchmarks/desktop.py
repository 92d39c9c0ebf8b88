"""From the start of the desktop program to its first token.

    make desktop
    python benchmarks/desktop.py build/desktop

Medians of starts that follow each other, so files come from the system's cache; a greedy text.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import time
from pathlib import Path

from machine import described

ARGUMENTS = ("Once upon a time", "--temperature", "0", "--tokens", "8")


def first_token(program: Path) -> float:
    """Return the seconds from starting the program to the first byte of its text."""
    start = time.perf_counter()
    with subprocess.Popen([program, *ARGUMENTS], stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        assert child.stdout.read(1)
        seconds = time.perf_counter() - start
        child.stdout.read()
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(description="Time the desktop program's start.")
    parser.add_argument("built", type=Path)
    parser.add_argument("--rounds", type=int, default=9)
    given = parser.parse_args()
    for kind in ("file", "folder"):
        program = given.built / kind / "tales"
        program = program / "tales" if program.is_dir() else program
        seconds = statistics.median(first_token(program) for _ in range(given.rounds))
        print(f"{kind}: first token after {seconds:.2f} s")
    print(described(1))


if __name__ == "__main__":
    main()
