"""Complete code in an editor: a session follows the buffer, and only what changed is computed.

    python examples/code.py [FOLDER]

The bundled model tells tales; a GPT-2 that was trained on code (CodeParrot, say) writes some.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pocketgpt

DEMO = Path(__file__).resolve().parent.parent / "models" / "demo"  # what `make demo` leaves
# An editor's buffer up to the cursor, as somebody types, and then changes an earlier line.
BUFFERS = [
    "def total(prices):\n    result = 0\n    for price in prices:\n",
    "def total(prices):\n    result = 0\n    for price in prices:\n        result +=",
    "def total(prices, tax):\n    result = 0\n    for price in prices:\n        result +=",
]


class Completer:
    """Suggests how a buffer goes on."""

    def __init__(self, model: pocketgpt.Model) -> None:
        """Start with an empty buffer."""
        self.session = model.session()
        self._tokenizer = model.tokenizer

    def suggest(self, buffer: str, lines: int = 1) -> str:
        """Return what may follow, and keep the buffer alone in the cache."""
        wanted, held = self._tokenizer.encode(buffer), self.session.token_ids
        pairs = enumerate(zip(wanted, held, strict=False))
        same = next((n for n, (a, b) in pairs if a != b), min(len(wanted), len(held)))
        # The last token is always computed: what follows it is what is asked for.
        same = min(same, len(wanted) - 1)
        self.session.rewind(len(held) - same)
        self.session.append(wanted[same:])
        made = self.session.generate(max_new_tokens=24, stop_strings=["\n" * lines])
        self.session.rewind(len(self.session.token_ids) - len(wanted))
        return made.text


def main() -> None:
    completer = Completer(pocketgpt.load(Path(sys.argv[1]) if len(sys.argv) > 1 else DEMO))
    for buffer in BUFFERS:
        before = completer.session.evaluated_tokens
        suggestion = completer.suggest(buffer)
        computed = completer.session.evaluated_tokens - before
        print(f"{buffer}\033[2m{suggestion}\033[0m\n# {computed} tokens computed\n")


if __name__ == "__main__":
    main()
