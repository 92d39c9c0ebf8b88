"""What beam search costs over decoding as many rows without it.

    python benchmarks/beams.py FOLDER [--variant V]... [--rounds N] [--threads N]

*step* is a beam search's step; *runtime* the share of it that is not ONNX Runtime's: choosing among
all beams' tokens, and copying keys and values so that each row continues its beam. *rows* is the
step over that of as many texts decoded greedily together, the same run. Medians over the rounds.
The table is Markdown.
"""

from __future__ import annotations

import argparse
import statistics
from pathlib import Path
from typing import Any

import pocketgpt

PROMPT = "Once upon a time, in a house by the sea, there lived an old man and his dog. " * 8
NEW_TOKENS = 48
BEAMS = (2, 4, 5, 8)


def step(timings: pocketgpt.Timings) -> float:
    """Return the seconds of a step."""
    return timings.decode_seconds / (NEW_TOKENS - 1)


def measure(model: pocketgpt.Model, beams: int) -> tuple[float, float, float]:
    """Return a search's step, the runtime's share of it, and the step over plain rows'."""
    options: dict[str, Any] = {"max_new_tokens": NEW_TOKENS, "min_new_tokens": NEW_TOKENS}
    searched = model.generate(PROMPT, num_beams=beams, **options).timings
    # Texts that begin apart, so that each row is one of its own.
    plain = model.generate([f"{row}. {PROMPT}" for row in range(beams)], **options)[-1].timings
    share = 1 - searched.engine_seconds / searched.decode_seconds
    return step(searched), share, step(searched) / step(plain)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--variant", action="append", help="all of the folder's by default")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, help="the physical cores by default")
    arguments = parser.parse_args()
    print("| variant | beams | step, ms | runtime | rows |")
    print("|---|---|---|---|---|")
    for variant in arguments.variant or pocketgpt.load(arguments.folder).manifest.variants:
        model = pocketgpt.load(arguments.folder, variant, threads=arguments.threads)
        for beams in BEAMS:
            rounds = [measure(model, beams) for _ in range(arguments.rounds + 1)][1:]
            seconds, share, over = map(statistics.median, zip(*rounds, strict=True))
            print(
                f"| {variant} | {beams} | {seconds * 1e3:.2f} | {share:.1%} | {over:.2f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
