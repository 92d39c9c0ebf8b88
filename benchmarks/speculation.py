"""Prompt lookup against plain decoding: on texts that repeat themselves, and on texts that do not.

    python benchmarks/speculation.py FOLDER [--variant V]... [--guess N] [--rounds N] [--threads N]

*repeats*: the prompt is a passage, and what is made is the passage again, forced token by token as
a model that copies would choose it. *text*: the prompt is real text, what is made is drawn from the
model. *noise*: 128 tokens drawn at a high temperature. Both ways
take turns; the ratio is that of each pair, their median with the least and the greatest. The table
is Markdown.
"""

from __future__ import annotations

import argparse
import statistics
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


def cases(model: pocketgpt.Model) -> dict[str, tuple[str, dict[str, Any]]]:
    """Return by name a prompt and how to continue it."""
    random = np.random.default_rng(0)
    ids = random.integers(256, model.config.vocab_size, 4 * PASSAGE).tolist()
    text = model.tokenizer.decode(ids).replace("\ufffd", "")
    passage = model.tokenizer.encode(text)[:PASSAGE]
    prompt = model.tokenizer.decode(passage)
    again = model.tokenizer.encode(prompt)
    return {
        "repeats": (prompt, {"logits_processor": [Copy(again)]}),
        "text": (
            "Once upon a time there was a king who had three sons. The eldest said to the king",
            {"do_sample": True, "top_p": 0.95, "top_k": 0, "seed": 1},
        ),
        "noise": (prompt, {"do_sample": True, "temperature": 5.0, "top_k": 0, "seed": 1}),
    }


def speed(model: pocketgpt.Model, prompt: str, guess: int | None, options: dict[str, Any]) -> Any:
    """Return the timings of one generation."""
    result = model.generate(
        prompt,
        max_new_tokens=NEW_TOKENS,
        eos_token_id=[],
        prompt_lookup_num_tokens=guess,
        **options,
    )
    assert len(result.token_ids) == NEW_TOKENS
    return result.timings


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--variant", action="append", help="may be repeated")
    parser.add_argument("--guess", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int)
    arguments = parser.parse_args()
    print("| variant | text | plain, tok/s | with lookup | accepted | ratio |")
    print("|---|---|---|---|---|---|")
    for variant in arguments.variant or ["fp32", "int8"]:
        model = pocketgpt.load(arguments.folder, variant, threads=arguments.threads)
        for name, (prompt, options) in cases(model).items():
            pairs = []
            for number in range(arguments.rounds + 1):
                pair = [speed(model, prompt, g, options) for g in (None, arguments.guess)]
                if number:  # the first round warms up
                    pairs.append(pair)
            ratios = [fast.tokens_per_second / plain.tokens_per_second for plain, fast in pairs]
            sides = zip(*pairs, strict=True)
            speeds = [statistics.median(t.tokens_per_second for t in side) for side in sides]
            found = pairs[-1][1]
            print(
                f"| {variant} | {name} | {speeds[0]:.0f} | {speeds[1]:.0f} "
                f"| {found.accepted_tokens} of {found.guessed_tokens} "
                f"| {statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f}) |",
                flush=True,
            )


if __name__ == "__main__":
    main()
