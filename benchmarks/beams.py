"""What beam search's reordering of the cache costs.

    python benchmarks/beams.py FOLDER [--variant V]... [--threads N]

*reorder* is the processor time a step takes to make each row of the cache continue its beam, in
microseconds and over the model's own step; *copied* the tokens whose keys and values it copies,
*past* the tokens that copying every beam's whole past would take. The table is Markdown.
"""

from __future__ import annotations

import argparse
import time
from collections import Counter
from pathlib import Path
from typing import Any

from pocketgpt.engine.cache import KeyValueCache

import pocketgpt
from pocketgpt.engine import decoder
from pocketgpt.folder.manifest import read_manifest
from pocketgpt.generation import beam

PROMPT = "Once upon a time, in a house by the sea, there lived an old man and his dog. " * 8
NEW_TOKENS = 48
BEAMS = (2, 4, 5, 8)


def timed(owner: Any, name: str, into: Counter[str]) -> None:
    """Add up the processor time inside a method, and its calls."""
    original = getattr(owner, name)

    def run(*arguments: Any) -> Any:
        begin = time.thread_time()
        result = original(*arguments)
        into[name] += time.thread_time() - begin  # type: ignore[assignment]
        into[f"{name} calls"] += 1
        return result

    setattr(owner, name, run)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--variant", action="append", help="all of the folder's by default")
    parser.add_argument("--threads", type=int, help="the physical cores by default")
    arguments = parser.parse_args()
    counted: Counter[str] = Counter()
    timed(beam._Slots, "follow", counted)
    timed(decoder.Decoder, "step", counted)
    copy_row = KeyValueCache.copy_row

    def counting_copy(self: KeyValueCache, source: int, target: int, start: int = 0) -> None:
        counted["copied"] += int(self.lengths[source]) - start
        copy_row(self, source, target, start)

    KeyValueCache.copy_row = counting_copy  # type: ignore[method-assign]
    print("| variant | beams | step, ms | reorder, us | over the step | copied | past |")
    print("|---|---|---|---|---|---|---|")
    for variant in arguments.variant or read_manifest(arguments.folder).variants:
        model = pocketgpt.load(arguments.folder, variant, threads=arguments.threads)
        prompt = len(model.tokenizer.encode(PROMPT))
        for beams in BEAMS:
            counted.clear()
            model.generate(PROMPT, max_new_tokens=NEW_TOKENS, num_beams=beams, eos_token_id=[])
            steps = counted["step calls"]
            copied = counted["copied"] - (beams - 1) * prompt  # the prompt is copied once for all
            print(
                f"| {variant} | {beams} | {counted['step'] / steps * 1e3:.2f} "
                f"| {counted['follow'] / steps * 1e6:.0f} "
                f"| {counted['follow'] / counted['step']:.1%} | {copied / steps:.1f} "
                f"| {beams * (prompt + NEW_TOKENS // 2)} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
