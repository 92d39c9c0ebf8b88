"""Guessing ahead against plain decoding: on texts that repeat themselves, and on texts that do not.

    python benchmarks/speculation.py FOLDER [--assistant FOLDER] [--variant V]... [--guess N]
        [--rows N] [--rounds N] [--threads N]

Guesses are looked up in the text, or with --assistant made by that model. *repeats*: the prompt is
a passage, and what is made is the passage again, forced token by token as a model that copies would
choose it (with an assistant: what the model itself likes best). *text*: the prompt is real text,
what is made is drawn from the model. *noise*: 128 tokens drawn at a high temperature. With --rows
so many texts are decoded together. Both ways take turns; the ratio is that of each pair, their
median with the least and the greatest. The table is Markdown.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

import pocketgpt

PASSAGE, NEW_TOKENS = 160, 128


class Copy:
    """A processor that makes a text go on as its prompt began: what a copying model would do."""

    def __init__(self, ids: list[int]) -> None:
        self._ids = ids

    def __call__(self, ids: list[int], logits: np.ndarray) -> np.ndarray:
        forced = np.full_like(logits, -np.inf)
        forced[self._ids[len(ids) - len(self._ids)]] = 0
        return forced


def passage(model: pocketgpt.Model, seed: int) -> str:
    """Return a text of about `PASSAGE` random tokens."""
    ids = np.random.default_rng(seed).integers(256, model.config.vocab_size, 4 * PASSAGE).tolist()
    text = model.tokenizer.decode(ids).replace("\ufffd", "")
    return model.tokenizer.decode(model.tokenizer.encode(text)[:PASSAGE])


def cases(model: pocketgpt.Model, rows: int) -> dict[str, tuple[list[str], list[dict[str, Any]]]]:
    """Return by name the prompts, one a row, and how to continue each."""
    prompts = [passage(model, seed) for seed in range(rows)]
    copies = [{"logits_processor": [Copy(model.tokenizer.encode(prompt))]} for prompt in prompts]
    seeds = [{"do_sample": True, "top_k": 0, "seed": seed} for seed in range(1, rows + 1)]
    story = "Once upon a time there was a king who had three sons. The eldest said to the king"
    return {
        "repeats": (prompts, [{}] * rows if model.assistant else copies),
        "text": ([story] * rows, [{"top_p": 0.95, **own} for own in seeds]),
        "noise": (prompts, [{"temperature": 5.0, **own} for own in seeds]),
    }


def run(
    model: pocketgpt.Model, prompts: list[str], own: list[dict[str, Any]], **guess: Any
) -> tuple[float, int, int]:
    """Return new tokens a second of all texts, and the tokens guessed and accepted."""
    found: Sequence[pocketgpt.GenerationResult] = model.generate(
        prompts,
        options=own,
        batch_size=len(prompts),
        max_new_tokens=NEW_TOKENS,
        eos_token_id=[],
        **guess,
    )
    timings = [one.timings for one in found]
    slowest = max(one.decode_seconds for one in timings)
    speed = sum(one.new_tokens - 1 for one in timings) / slowest
    guessed = sum(one.guessed_tokens for one in timings)
    return speed, guessed, sum(one.accepted_tokens for one in timings)


def row(model: pocketgpt.Model, name: str, rows: int, guess: int, rounds: int) -> str:
    """Return a case's row of the table."""
    prompts, own = cases(model, rows)[name]
    option = "num_assistant_tokens" if model.assistant else "prompt_lookup_num_tokens"
    pairs = []
    for number in range(rounds + 1):
        plain = run(model, prompts, own, num_assistant_tokens=0)
        fast = run(model, prompts, own, **{option: guess})
        if number:  # the first round warms up
            pairs.append((plain, fast))
    ratios = [fast[0] / plain[0] for plain, fast in pairs]
    speeds = [statistics.median(one[0] for one in side) for side in zip(*pairs, strict=True)]
    _, guessed, accepted = pairs[-1][1]
    return (
        f"| {model.variant} | {name} | {speeds[0]:.0f} | {speeds[1]:.0f} "
        f"| {accepted} of {guessed} "
        f"| {statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f}) |"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--assistant", type=Path, help="a smaller model's folder")
    parser.add_argument("--variant", action="append", help="may be repeated")
    parser.add_argument("--guess", type=int, default=10)
    parser.add_argument("--rows", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int)
    arguments = parser.parse_args()
    print("| variant | text | plain, tok/s | with guesses | accepted | ratio |")
    print("|---|---|---|---|---|---|")
    for variant in arguments.variant or ["fp32", "int8"]:
        model = pocketgpt.load(
            arguments.folder, variant, threads=arguments.threads, assistant=arguments.assistant
        )
        for name in ("repeats", "text", "noise"):
            print(row(model, name, arguments.rows, arguments.guess, arguments.rounds), flush=True)


if __name__ == "__main__":
    main()
