"""How long a prompt takes by the size of the chunks it is fed in.

    python benchmarks/prefill.py FOLDER [--variant V]... [--rounds N] [--threads N]

Every round feeds a prompt of 512 tokens, and one as long as the context, in chunks of every size,
one size after another. The figures are medians over the rounds of the time over that of one pass.
The table is Markdown.
"""

from __future__ import annotations

import argparse
import statistics
import time
from pathlib import Path

import numpy as np

import pocketgpt

CHUNKS = (64, 128, 192, 256, 512)


def seconds(model: pocketgpt.Model, token_ids: list[int], chunk: int) -> float:
    """Return how long `token_ids` take in chunks of `chunk`."""
    decoder = model.new_decoder()
    decoder.reserve(len(token_ids))
    begin = time.perf_counter()
    for start in range(0, len(token_ids), chunk):
        decoder.append(token_ids[start : start + chunk])
    return time.perf_counter() - begin


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--variant", action="append", help="all of the folder's by default")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, help="the physical cores by default")
    arguments = parser.parse_args()
    print("| variant | tokens | one pass, ms | " + " | ".join(map(str, CHUNKS)) + " |")
    print("|---|---|---|" + "---|" * len(CHUNKS))
    for variant in arguments.variant or pocketgpt.load(arguments.folder).manifest.variants:
        model = pocketgpt.load(arguments.folder, variant, threads=arguments.threads)
        random = np.random.default_rng(0)
        for count in (512, model.config.n_positions):
            token_ids = random.integers(0, model.config.vocab_size, count).tolist()
            seconds(model, token_ids, count)  # the first run allocates
            rounds = [
                [seconds(model, token_ids, chunk) for chunk in (count, *CHUNKS)]
                for _ in range(arguments.rounds)
            ]
            one_pass = statistics.median(times[0] for times in rounds)
            shares = [
                statistics.median(times[i] / times[0] for times in rounds)
                for i in range(1, len(CHUNKS) + 1)
            ]
            figures = " | ".join(f"{share:.2f}" for share in shares)
            print(f"| {variant} | {count} | {one_pass * 1e3:.0f} | {figures} |", flush=True)


if __name__ == "__main__":
    main()
