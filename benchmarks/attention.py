"""ONNX Runtime's tiled attention against whole products, on caches of float32 and of 8 bits.

    python benchmarks/attention.py FOLDER [--variant V]... [--rounds N] [--threads N]

Both are opened in one process, by ORT_GQA_DISABLE_FLASH_ATTENTION, which kernels read when they are
made, and take turns on the same tokens. A figure is how many times as long the tiled way takes:
the median over the rounds, and the least and the greatest. *step after N* is a step's median time
behind a prompt of N tokens, *prompt of N* that prompt's. The table is Markdown.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from pathlib import Path
from typing import Literal, get_args

import numpy as np

import pocketgpt

LENGTHS = (32, 512, 900)
STEPS = 32
Cache = Literal["float", "int8"]


def opened(
    folder: Path, variant: str, cache: Cache, threads: int | None, off: str
) -> pocketgpt.Model:
    """Load a variant, its tiled attention off (1) or on (0)."""
    os.environ["ORT_GQA_DISABLE_FLASH_ATTENTION"] = off
    return pocketgpt.load(folder, variant, kv_cache=cache, threads=threads)


def timed(model: pocketgpt.Model, ids: list[int]) -> tuple[float, float]:
    """Return the seconds of a prompt, and of a step behind it."""
    decoder = model.new_decoder(1)
    decoder.reserve(len(ids) + STEPS)
    begun = time.perf_counter()
    token = int(decoder.prefill(ids).argmax())
    prompt, steps = time.perf_counter() - begun, []
    for _ in range(STEPS):
        begun = time.perf_counter()
        token = int(decoder.step(token).argmax())
        steps.append(time.perf_counter() - begun)
    return prompt, statistics.median(steps)


def ratios(
    folder: Path, variant: str, cache: Cache, rounds: int, threads: int | None
) -> dict[str, list[float]]:
    """Return what the tiled way takes of the other's time, by figure and round."""
    whole, tiled = (opened(folder, variant, cache, threads, off) for off in "10")
    random, found = np.random.default_rng(0), dict[str, list[float]]()
    for number in range(rounds + 1):
        for length in LENGTHS:
            ids = random.integers(0, whole.config.vocab_size, length).tolist()
            pairs = zip(timed(tiled, ids), timed(whole, ids), strict=True)
            for name, (ours, theirs) in zip(("prompt of", "step after"), pairs, strict=True):
                if number:  # the first round warms up
                    found.setdefault(f"{name} {length}", []).append(ours / theirs)
    return found


def spread(values: list[float]) -> str:
    """Return the median, the least and the greatest."""
    return f"{statistics.median(values):.2f} ({min(values):.2f}-{max(values):.2f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--variant", action="append", help="q8, int8 and q4 by default")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, help="the physical cores by default")
    given = parser.parse_args()
    names = [f"{name} {length}" for name in ("step after", "prompt of") for length in LENGTHS]
    print("| variant | cache | " + " | ".join(names) + " |")
    print("|---|---|" + "---|" * len(names))
    for cache in get_args(Cache):
        for variant in given.variant or ["q8", "int8", "q4"]:
            found = ratios(given.folder, variant, cache, given.rounds, given.threads)
            cells = [spread(found[name]) for name in names]
            print(f"| {variant} | {cache} | " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
