"""What `low_memory=True` saves: the peak of a process that loads a variant and makes 100 tokens.

    python benchmarks/low_memory.py FOLDER [--variant V]... [--threads N]

Every figure is of a process of its own, Python and imports included. The table is Markdown.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

from machine import peak_memory

import pocketgpt

PROMPT, TOKENS = "Once upon a time " * 20, 100


def generate_once(folder: Path, variant: str, threads: int | None, low_memory: bool) -> None:
    """Generate, and print the peak memory of this process."""
    model = pocketgpt.load(folder, variant, threads=threads, low_memory=low_memory)
    model.generate(PROMPT, max_new_tokens=TOKENS, eos_token_id=[])
    print(peak_memory())


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--variant", action="append", help="all of the folder's by default")
    parser.add_argument("--threads", type=int, help="the physical cores by default")
    parser.add_argument("--once", choices=["plain", "low"], help="what a process of its own does")
    arguments = parser.parse_args()
    if arguments.once:
        low = arguments.once == "low"
        return generate_once(arguments.folder, arguments.variant[0], arguments.threads, low)
    print("| variant | peak, MB | with low_memory, MB |")
    print("|---|---|---|")
    variants = arguments.variant or pocketgpt.load(arguments.folder).manifest.variants
    given = [] if arguments.threads is None else ["--threads", str(arguments.threads)]
    for variant in variants:
        peaks = []
        for once in ("plain", "low"):
            command = [sys.executable, __file__, str(arguments.folder), "--variant", variant]
            command += [*given, "--once", once]
            done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
            peaks.append(f"{int(done.stdout) / 1e6:.0f}")
        print(f"| {variant} | {' | '.join(peaks)} |", flush=True)
    return None


if __name__ == "__main__":
    main()
