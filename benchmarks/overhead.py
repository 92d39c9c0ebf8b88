"""The runtime's own time in decoding: what a step takes over ONNX Runtime's part of it.

    python benchmarks/overhead.py FOLDER [--variant V]... [--rows N]... [--rounds N] [--threads N]

Texts of 32 tokens are continued, one and sixteen together, greedily and with four options of
sampling: repetition_penalty, temperature, top_k and top_p. *over ONNX Runtime* is the time from the
first new token to the last over what ONNX Runtime ran in it, less one: choosing tokens, text, stop
strings, bookkeeping. Medians over the rounds, which take turns. The table is Markdown.
"""

from __future__ import annotations

import argparse
import statistics
from pathlib import Path
from typing import Any

import numpy as np

import pocketgpt

PROMPT_TOKENS = 32
ROWS = (1, 16)
MODES: dict[str, dict[str, Any]] = {
    "greedy": {},
    "sampling": {
        "do_sample": True,
        "seed": 1,
        "repetition_penalty": 1.1,
        "temperature": 0.9,
        "top_k": 50,
        "top_p": 0.95,
    },
}


def prompts(model: pocketgpt.Model, rows: int) -> list[str]:
    """Return random texts of exactly 32 tokens: prompts of one length begin and end together."""
    random = np.random.default_rng(rows)
    texts: list[str] = []
    while len(texts) < rows:
        ids = random.integers(0, model.config.vocab_size, 4 * PROMPT_TOKENS).tolist()
        text = model.tokenizer.decode(ids).replace("\ufffd", "")
        text = model.tokenizer.decode(model.tokenizer.encode(text)[:PROMPT_TOKENS])
        if len(model.tokenizer.encode(text)) == PROMPT_TOKENS:
            texts.append(text)
    return texts


def decode(
    model: pocketgpt.Model, texts: list[str], tokens: int, options: dict[str, Any]
) -> tuple[float, float]:
    """Return the seconds of a step of all rows, and what it takes over ONNX Runtime's part."""
    results = model.generate(
        texts, batch_size=len(texts), max_new_tokens=tokens + 1, eos_token_id=[], **options
    )
    assert all(len(result.token_ids) == tokens + 1 for result in results)
    timings = results[0].timings
    return timings.decode_seconds / tokens, timings.decode_seconds / timings.engine_seconds - 1


def measure(
    folder: Path, variant: str, rows: list[int], tokens: int, rounds: int, threads: int | None
) -> None:
    """Print a variant's rows of the table."""
    model = pocketgpt.load(folder, variant, threads=threads)
    cases = [(count, mode) for count in rows for mode in MODES]
    texts = {count: prompts(model, count) for count in rows}
    measured: dict[tuple[int, str], list[tuple[float, float]]] = {case: [] for case in cases}
    for number in range(rounds + 1):
        for count, mode in cases:
            pair = decode(model, texts[count], tokens, MODES[mode])
            if number:  # the first round allocates and warms up
                measured[count, mode].append(pair)
    for (count, mode), pairs in measured.items():
        step, over = (statistics.median(values) for values in zip(*pairs, strict=True))
        own = step - step / (1 + over)
        print(
            f"| {variant} | {count} | {mode} | {step * 1e3:.2f} | {own * 1e6:.0f} | {over:.1%} |",
            flush=True,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--variant", action="append", help="all of the folder's by default")
    parser.add_argument("--rows", action="append", type=int, help="1 and 16 by default")
    parser.add_argument("--tokens", type=int, default=64, help="decoding steps a run")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, help="the physical cores by default")
    arguments = parser.parse_args()
    print("| variant | rows | decoding | step, ms | its own, us | over ONNX Runtime |")
    print("|---|---|---|---|---|---|")
    for variant in arguments.variant or pocketgpt.load(arguments.folder).manifest.variants:
        rows = arguments.rows or list(ROWS)
        rounds, threads = arguments.rounds, arguments.threads
        measure(arguments.folder, variant, rows, arguments.tokens, rounds, threads)


if __name__ == "__main__":
    main()
