"""How long a suggestion takes at a keystroke, typing a text key by key.

    python benchmarks/autocomplete.py FOLDER [--variant V]

Beside it the same suggestion without a session: the whole text is computed at every keystroke.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from pathlib import Path

from machine import described

import pocketgpt

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "examples" / "autocomplete"))

from completer import Completer

BEFORE = (  # what stands before the line that is typed
    "There was once a king who had three sons, and the youngest of them was called Dummling. "
    "He was mocked and sneered at on every occasion, and nobody thought much of him. "
) * 5
TYPED = "One day the king fell ill, and no doctor in the whole country could help him."


def keystrokes(completer: Completer, fresh: pocketgpt.Model | None) -> list[float]:
    """Return the seconds of every keystroke's suggestion; with `fresh`, from nothing."""
    seconds = []
    for end in range(1, len(TYPED) + 1):
        if fresh is not None:
            completer = Completer(fresh, completer.tokens)
        start = time.perf_counter()
        completer.begin(BEFORE + TYPED[:end]).result()
        seconds.append(time.perf_counter() - start)
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(description="Time suggestions, key by key.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--variant")
    parser.add_argument("--tokens", type=int, default=10)
    parser.add_argument("--threads", type=int)
    given = parser.parse_args()
    model = pocketgpt.load(given.folder, given.variant, threads=given.threads)
    completer = Completer(model, given.tokens)
    completer.begin(BEFORE).result()
    for name, fresh in (("one session", None), ("whole text", model)):
        seconds = keystrokes(completer, fresh)
        median, worst = 1e3 * statistics.median(seconds), 1e3 * max(seconds)
        print(f"{name}: median {median:.1f} ms, worst {worst:.1f} ms, {len(seconds)} keystrokes")
    print(f"{model.variant}, {len(model.tokenizer.encode(BEFORE))} tokens before the line typed")
    print(described(given.threads or 0))


if __name__ == "__main__":
    main()
