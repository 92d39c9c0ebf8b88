"""Continue texts: one as it is made, several at once, several ways.

python examples/complete.py [FOLDER] [PROMPT]...
"""

from __future__ import annotations

import sys
from pathlib import Path

import pocketgpt

DEMO = Path(__file__).resolve().parent.parent / "models" / "demo"  # what `make demo` leaves
PROMPTS = ["Once upon a time", "The old fisherman said to his wife", "In the middle of the forest"]


def main() -> None:
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else DEMO
    prompts = sys.argv[2:] or PROMPTS
    model = pocketgpt.load(folder)

    print(prompts[0], end="", flush=True)
    for piece in model.stream(prompts[0], max_new_tokens=40, stop_strings=["\n\n"]):
        print(piece, end="", flush=True)
    print("\n")

    # Several prompts share every step of the model: far faster than one after another.
    for prompt, result in zip(prompts, model.generate(prompts, max_new_tokens=20), strict=True):
        print(f"{prompt}{result.text} ... ({result.finish_reason})\n")

    ways = model.generate(
        prompts[0], num_return_sequences=3, do_sample=True, top_p=0.9, seed=1, max_new_tokens=15
    )
    assert isinstance(ways, list)
    for number, result in enumerate(ways, 1):
        print(f"{number}. {prompts[0]}{result.text}")


if __name__ == "__main__":
    main()
