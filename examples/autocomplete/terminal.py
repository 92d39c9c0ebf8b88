"""Type in a terminal, and see how it may go on: Tab takes a suggestion, Ctrl-C ends.

python examples/autocomplete/terminal.py [FOLDER]
"""

from __future__ import annotations

import os
import shutil
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from autocomplete import Autocomplete, Suggestion

import pocketgpt

DEMO = Path(__file__).resolve().parents[2] / "models" / "demo"  # what `make demo` leaves
DIM, PLAIN, CLEAR = "\033[2m", "\033[0m", "\r\033[2K"
TAB, ENTER, END, BACKSPACE = "\t", "\r\n", "\x03\x04", "\x7f\b"


class Line:
    """One line of a terminal: what was typed, what is suggested, and how long that took."""

    def __init__(self) -> None:
        self.text = ""
        self.suggestion = ""
        self._note = ""
        self._lock = threading.Lock()

    def typed(self, text: str) -> None:
        """Take what is typed now; what was suggested before stays as far as it still fits."""
        with self._lock:
            whole = self.text + self.suggestion
            self.suggestion = whole[len(text) :] if whole.startswith(text) else ""
            self.text = text
            self._draw()

    def suggested(self, found: Suggestion) -> None:
        """Show a suggestion, unless the text has changed meanwhile."""
        with self._lock:
            if found.text == self.text:
                self.suggestion = found.suggestion
                self._note = f"{found.milliseconds:.0f} ms, {found.computed} tokens computed"
                self._draw()

    def _draw(self) -> None:
        width = shutil.get_terminal_size().columns
        note = self._note if len(self._note) < width // 2 else ""
        room = max(10, width - len(note) - 2)
        text = self.text[-(room * 2 // 3) :]
        suggestion = self.suggestion[: room - len(text)]
        right = f"\033[{width - len(note) + 1}G{DIM}{note}{PLAIN}"
        # Everything, then back to where the text ends.
        sys.stdout.write(f"{CLEAR}{text}{DIM}{suggestion}{PLAIN}{right}\033[{len(text) + 1}G")
        sys.stdout.flush()


@contextmanager
def keys() -> Iterator[Callable[[], str]]:
    """Read single keys, as they are pressed; the terminal is afterwards as it was."""
    import termios
    import tty

    before = termios.tcgetattr(sys.stdin)
    tty.setraw(sys.stdin)
    try:
        yield lambda: sys.stdin.read(1)
    finally:
        termios.tcsetattr(sys.stdin, termios.TCSADRAIN, before)


def main() -> None:
    if not sys.stdin.isatty() or os.name != "posix":
        sys.exit("autocomplete needs a terminal of Linux or macOS: type in one")
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else DEMO
    line = Line()
    with Autocomplete(pocketgpt.load(folder), line.suggested) as autocomplete, keys() as read:
        line.typed("")
        while (key := read()) and key not in END:
            if key in ENTER:
                sys.stdout.write(f"{CLEAR}{line.text}\r\n")
                line.typed("")
                continue
            if key == TAB:
                line.typed(line.text + line.suggestion)
            elif key in BACKSPACE:
                line.typed(line.text[:-1])
            elif key.isprintable():
                line.typed(line.text + key)
            autocomplete.type(line.text)
        sys.stdout.write(f"{CLEAR}{line.text}\r\n")


if __name__ == "__main__":
    main()
