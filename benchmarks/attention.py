"""ONNX Runtime's two ways to attend, tiles and whole products, against the choice between them.

    python benchmarks/attention.py FOLDER [--variant V]... [--rounds N] [--threads N]

All three are opened in one process, the graph as it lies there by ORT_GQA_DISABLE_FLASH_ATTENTION,
which kernels read when they are made, and take turns on the same tokens. A figure is how many times
as long a way takes as the one that runs: the median over the rounds, and the least and the
greatest. *step after N* is a step's median time behind a prompt of N tokens, *prompt of N* that
prompt's. The table is Markdown.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from pathlib import Path
from typing import Literal, get_args

import numpy as np
from machine import open_decoder

import pocketgpt

LENGTHS = (32, 512, 900)
STEPS = 32
TOKENS = 1000  # of the vocabulary, to draw from
Cache = Literal["float", "int8"]
WAYS = {"tiles": "0", "whole products": "1"}


def opened(
    folder: Path, variant: str, cache: Cache, threads: int | None, way: str | None
) -> pocketgpt.Decoder:
    """Open a variant that attends one way; None for the one that `load` chooses."""
    os.environ["ORT_GQA_DISABLE_FLASH_ATTENTION"] = WAYS.get(way or "", "0")
    return open_decoder(folder, variant, cache, threads, tuned=way is None)


def timed(decoder: pocketgpt.Decoder, ids: list[int]) -> tuple[float, float]:
    """Return the seconds of a prompt, and of a step behind it."""
    decoder.rewind(0)
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
) -> dict[tuple[str, str], list[float]]:
    """Return what each way takes of the chosen one's time, by way and figure, round by round."""
    decoders = {way: opened(folder, variant, cache, threads, way) for way in (None, *WAYS)}
    random, found = np.random.default_rng(0), dict[tuple[str, str], list[float]]()
    for number in range(rounds + 1):
        for length in LENGTHS:
            ids = random.integers(0, TOKENS, length).tolist()
            times = {way: timed(decoder, ids) for way, decoder in decoders.items()}
            for way in WAYS if number else ():  # the first round warms up
                pairs = zip(times[way], times[None], strict=True)
                for name, (its, chosen) in zip(("prompt of", "step after"), pairs, strict=True):
                    found.setdefault((way, f"{name} {length}"), []).append(its / chosen)
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
    print("| variant | cache | way | " + " | ".join(names) + " |")
    print("|---|---|---|" + "---|" * len(names))
    for cache in get_args(Cache):
        for variant in given.variant or ["q8", "int8", "q4"]:
            found = ratios(given.folder, variant, cache, given.rounds, given.threads)
            for way in WAYS:
                cells = [spread(found[way, name]) for name in names]
                print(f"| {variant} | {cache} | {way} | " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
