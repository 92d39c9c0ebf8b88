"""Let somebody who types be simulated, and measure how long suggestions take.

    python examples/autocomplete/typist.py [FOLDER] [--keys-a-second 8]

Prints, for the whole text, the time from a keystroke to the first words suggested, and what a
session spares: tokens computed, over those of the text.
"""

from __future__ import annotations

import argparse
import statistics
import time
from pathlib import Path

from autocomplete import Autocomplete, Suggestion

import pocketgpt

DEMO = Path(__file__).resolve().parents[2] / "models" / "demo"
TEXT = (
    "Once upon a time there lived in a small house at the edge of the forest an old woman, who had "
    "nobody in the world but a grey cat. Every evening she put a light into the window, and the "
    "cat sat beside it and looked out into the dark. One night somebody knocked at the door."
)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("folder", type=Path, nargs="?", default=DEMO)
    parser.add_argument("--variant")
    parser.add_argument("--keys-a-second", type=float, default=8)
    given = parser.parse_args()
    model = pocketgpt.load(given.folder, given.variant)
    waits: dict[str, float] = {}
    computed: dict[str, int] = {}

    def note(found: Suggestion) -> None:
        waits.setdefault(found.text, found.milliseconds)
        computed[found.text] = found.computed

    with Autocomplete(model, note) as autocomplete:
        for end in range(1, len(TEXT) + 1):
            autocomplete.type(TEXT[:end])
            time.sleep(1 / given.keys_a_second)
        autocomplete.wait()
    whole = [len(model.tokenizer.encode(text)) for text in computed]
    longest = statistics.quantiles(waits.values(), n=20)[-1]
    print(f"{model.variant}, {len(TEXT)} keystrokes, {given.keys_a_second:g} a second")
    print(
        f"first words after {statistics.median(waits.values()):.1f} ms, of 95% by {longest:.1f} ms"
    )
    print(
        f"{statistics.mean(computed.values()):.1f} tokens computed for a suggestion, "
        f"the text has {statistics.mean(whole):.1f}; {autocomplete.cancelled} were cancelled"
    )


if __name__ == "__main__":
    main()
