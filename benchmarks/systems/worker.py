"""What every system is asked, in a process of its own; its answer is one line of JSON.

A system is a module with `prepare(checkpoint, folder, work)`, which converts once by the system's
own tool, and `open_engine(work, folder, kind, threads)`, which returns an object with

    run(texts, count) -> list of lists     `count` greedy tokens after each text, past any EOS

Texts are token ids. The first token's time is that of a run of one; a step's, what a run of more
takes longer for each. So systems that give no steps by hand are measured as all others are.
"""

from __future__ import annotations

import argparse
import importlib
import json
import resource
import sys
import time
from pathlib import Path
from typing import Any

LENGTHS = (32, 512, 900)  # tokens in the cache when decoding begins
STEPS = 48
JOB_PROMPT, JOB_NEW = 512, 128
ROWS, ROWS_PROMPT, ROWS_STEPS = (8, 32), 32, 24


def ids_of(length: int, vocab_size: int, seed: int = 0) -> list[int]:
    """Return the same token ids for every system: a linear congruence over the vocabulary."""
    found, state = [], 12345 + seed
    for _ in range(length):
        state = (1103515245 * state + 12345) % 2**31
        found.append(256 + (state >> 8) % (vocab_size - 512))
    return found


def seconds(engine: Any, texts: list[list[int]], count: int) -> tuple[float, list[list[int]]]:
    """Run once; return how long it took, and the tokens."""
    begin = time.perf_counter()
    made = engine.run(texts, count)
    took = time.perf_counter() - begin
    assert [len(tokens) for tokens in made] == [count] * len(texts), "tokens are missing"
    return took, made


def measure(engine: Any, vocab_size: int, context: int) -> dict[str, Any]:
    """Return seconds of everything, and the tokens that came out."""
    found: dict[str, Any] = {"tokens": {}}
    for length in LENGTHS:
        if length + STEPS + 1 > context:
            continue
        text = [ids_of(length, vocab_size)]
        seconds(engine, text, 1)  # warm
        first, _ = seconds(engine, text, 1)
        whole, made = seconds(engine, text, STEPS + 1)
        found[f"first token after {length}"] = first
        found[f"step after {length}"] = (whole - first) / STEPS
        found["tokens"][str(length)] = made[0]
    if context >= JOB_PROMPT + JOB_NEW:
        found["job"], _ = seconds(engine, [ids_of(JOB_PROMPT, vocab_size)], JOB_NEW)
    found["peak_rss"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    for rows in ROWS if getattr(engine, "batches", True) else ():
        texts = [ids_of(ROWS_PROMPT, vocab_size, row) for row in range(rows)]
        first, _ = seconds(engine, texts, 1)
        whole, _ = seconds(engine, texts, ROWS_STEPS + 1)
        found[f"step of {rows} rows"] = (whole - first) / ROWS_STEPS
    return found


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("system")
    parser.add_argument("doing", choices=["prepare", "measure"])
    parser.add_argument("--checkpoint", type=Path)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--work", type=Path)
    parser.add_argument("--kind")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--started", type=float)
    arguments = parser.parse_args()
    system = importlib.import_module(f"systems.{arguments.system}")
    if arguments.doing == "prepare":
        arguments.work.mkdir(parents=True, exist_ok=True)
        system.prepare(arguments.checkpoint, arguments.folder, arguments.work)
        return
    config = json.loads((arguments.checkpoint / "config.json").read_text("utf-8"))
    engine = system.open_engine(arguments.work, arguments.folder, arguments.kind, arguments.threads)
    engine.run([ids_of(32, config["vocab_size"])], 1)
    to_first = time.time() - arguments.started
    found = measure(engine, config["vocab_size"], config["n_positions"])
    print(json.dumps({"start to first token": to_first, **found}), flush=True)


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
    main()
