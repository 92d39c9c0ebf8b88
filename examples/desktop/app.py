"""Tales on the desktop: one program, with the model inside.

    tales [PROMPT] [--greedy] [--tokens N] [--seed N]

Without a PROMPT it asks for one, and again after each text, until the input ends.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import pocketgpt

MODEL = Path(__file__).resolve().parent / "model"  # build.py put it beside this file


def tell(model: pocketgpt.Model, prompt: str, given: argparse.Namespace) -> None:
    """Write the prompt and how it goes on, as it is made."""
    drawn = not given.greedy
    sys.stdout.write(prompt)
    for piece in model.stream(
        prompt,
        max_new_tokens=given.tokens,
        do_sample=drawn,
        temperature=0.8 if drawn else 1.0,
        top_p=0.95 if drawn else 1.0,
        seed=given.seed,
    ):
        sys.stdout.write(piece)
        sys.stdout.flush()
    print()


def main() -> None:
    parser = argparse.ArgumentParser(prog="tales", description="Tell a tale from its first words.")
    parser.add_argument("prompt", nargs="?", help="how it begins; without it you are asked")
    parser.add_argument("--greedy", action="store_true", help="always take the likeliest word")
    parser.add_argument("--tokens", type=int, default=120, help="how long at most (120)")
    parser.add_argument("--seed", type=int, help="the same seed tells the same tale")
    given = parser.parse_args()
    try:
        model = pocketgpt.load(MODEL)
        if given.prompt is not None:
            tell(model, given.prompt, given)
            return
        while True:
            tell(model, input("How does it begin? "), given)
    except pocketgpt.PocketGPTError as error:
        sys.exit(f"tales: {error}")
    except (EOFError, KeyboardInterrupt):
        print()


if __name__ == "__main__":
    main()
