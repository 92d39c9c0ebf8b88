"""Many ragged prompts in few slots: tokens a second, against another checkout of PocketGPT.

    python benchmarks/batch.py FOLDER [--variant V] [--against CHECKOUT] [--rounds N] [--threads N]

256 prompts of 16 to 256 random tokens, 16 to 128 new tokens each, greedy, `batch_size` 16. Every
run is a process of its own; those of this checkout and of the other take turns, and the ratio is
that of each pair, their median with the least and the greatest. *idle* counts slots that stood
empty in a step while prompts waited. The table is Markdown.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

PROMPTS, BATCH_SIZE = 256, 16
PROMPT_TOKENS, NEW_TOKENS = (16, 256), (16, 128)
PACKAGES = ("runtime", "exporter", "quantize")


def run(folder: str, variant: str, prompts: int, threads: int | None) -> dict[str, Any]:
    """Generate everything once, by what both checkouts have: the public door."""
    import numpy as np

    import pocketgpt

    model = pocketgpt.load(folder, variant, threads=threads)
    random = np.random.default_rng(0)
    words = [text for i in range(256, 5000) if (text := model.tokenizer.decode([i])).isascii()]
    texts, options = [], []
    for _ in range(prompts):
        wanted = int(random.integers(PROMPT_TOKENS[0], PROMPT_TOKENS[1] + 1))
        text = "".join(random.choice(words, wanted))
        texts.append(model.tokenizer.decode(model.tokenizer.encode(text)[:wanted]))
        options.append({"max_new_tokens": int(random.integers(NEW_TOKENS[0], NEW_TOKENS[1] + 1))})
    model.generate(texts[:2], max_new_tokens=2)  # the first run allocates
    stream = model.stream(texts, options=options, batch_size=BATCH_SIZE, eos_token_id=[])
    begin = time.perf_counter()
    for _ in stream:
        pass
    seconds = time.perf_counter() - begin
    assert stream.result is not None
    made = sum(len(result.token_ids) for result in stream.result)
    counters = getattr(stream, "counters", None)
    return {
        "tokens_per_second": made / seconds,
        "tokens": made,
        "idle": counters.idle if counters else None,
        "rows_per_step": counters.rows / counters.steps if counters else None,
    }


def in_checkout(checkout: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    """Run this script by another checkout's packages, in a process of its own."""
    path = os.pathsep.join(str(checkout / name) for name in PACKAGES)
    command = [sys.executable, __file__, str(arguments.folder), "--once"]
    command += ["--variant", arguments.variant, "--prompts", str(arguments.prompts)]
    command += ["--threads", str(arguments.threads)] if arguments.threads else []
    done = subprocess.run(
        command, stdout=subprocess.PIPE, check=True, env={**os.environ, "PYTHONPATH": path}
    )
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--variant", default="int8")
    parser.add_argument("--against", type=Path, help="another checkout of PocketGPT")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--prompts", type=int, default=PROMPTS)
    parser.add_argument("--threads", type=int, help="the physical cores by default")
    parser.add_argument("--once", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.once:
        folder, variant = str(arguments.folder), arguments.variant
        print(json.dumps(run(folder, variant, arguments.prompts, arguments.threads)))
        return
    here = Path(__file__).resolve().parents[1]
    checkouts = [here] + ([arguments.against] if arguments.against else [])
    rounds = [[in_checkout(c, arguments) for c in checkouts] for _ in range(arguments.rounds)]
    print("| checkout | tokens | tokens a second | rows a step | idle | ratio |")
    print("|---|---|---|---|---|---|")
    for place, checkout in enumerate(checkouts):
        speeds = [round_[place]["tokens_per_second"] for round_ in rounds]
        ratios = sorted(
            round_[0]["tokens_per_second"] / speed
            for round_, speed in zip(rounds, speeds, strict=True)
        )
        one = rounds[0][place]
        rows = "" if one["rows_per_step"] is None else f"{one['rows_per_step']:.1f}"
        ratio = f"{statistics.median(ratios):.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f})"
        name = "this one" if checkout == here else "the other"
        print(
            f"| {name} | {one['tokens']} | {statistics.median(speeds):.0f} | {rows} "
            f"| {'' if one['idle'] is None else one['idle']} | {ratio if place else ''} |"
        )


if __name__ == "__main__":
    main()
