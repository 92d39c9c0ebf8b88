"""A program that writes on from your words: a window, or the terminal where words are given.

    tales                                    a window
    tales "Once upon a time" --tokens 40     the text, as it is made
    echo "The wolf" | tales -                the same, of what is piped in

`bundle.py` makes one program of it, with the model inside.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import pocketgpt

# Beside this file, where PyInstaller unpacks both.
MODEL = Path(__file__).resolve().parent / "model.pocketgpt"


def parsed(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser("tales", description="Writes on from your words.")
    parser.add_argument("text", nargs="?", help="words to go on from; - for standard input")
    parser.add_argument("--tokens", type=int, default=120, help="how many tokens at most")
    parser.add_argument("--temperature", type=float, default=0.7, help="0: always the likeliest")
    parser.add_argument("--seed", type=int, help="the same seed draws the same text")
    parser.add_argument("--ids", action="store_true", help="print token ids, not text")
    parser.add_argument("--model", type=Path, default=MODEL, help=argparse.SUPPRESS)
    return parser.parse_args(arguments)


def in_terminal(given: argparse.Namespace) -> None:
    """Print the text that follows, piece by piece."""
    prompt = sys.stdin.read().rstrip("\n") if given.text == "-" else given.text
    stream = pocketgpt.load(given.model).stream(
        prompt,
        max_new_tokens=given.tokens,
        do_sample=given.temperature != 0,
        temperature=given.temperature or 1.0,
        seed=given.seed,
    )
    for piece in stream:
        if not given.ids:
            print(piece, end="", flush=True)
    assert stream.result is not None
    print(*stream.result.token_ids if given.ids else "")


def in_window(given: argparse.Namespace) -> None:
    """Show the window; where there can be none, say so in a line."""
    instead = 'in the terminal: tales "Once upon a time"'
    try:
        from tkinter import TclError  # missing from some Pythons; the terminal needs none

        from window import Window
    except ImportError as error:
        sys.exit(f"tales: no window without tkinter ({error}); {instead}")
    try:
        window = Window(given.model, given.tokens, given.temperature)
    except TclError as error:
        sys.exit(f"tales: no window ({error}); {instead}")
    window.run()


def main() -> int:
    for stream in (sys.stdin, sys.stdout):  # whatever the system's own encoding is
        stream.reconfigure(encoding="utf-8")  # type: ignore[union-attr]
    given = parsed()
    try:
        in_window(given) if given.text is None else in_terminal(given)
    except pocketgpt.PocketGPTError as error:
        print(f"tales: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
