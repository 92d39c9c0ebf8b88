"""Type, and see in grey how the text may go on: Tab or the right arrow takes it.

    python examples/autocomplete/app.py [FOLDER]

Every keystroke cancels what was being computed for the last one. Below the text: how long the
suggestion took, and how many tokens were computed for it. Enter ends a line, Ctrl+D the program.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from completer import Completer, Suggestion
from prompt_toolkit import PromptSession
from prompt_toolkit.auto_suggest import AutoSuggest
from prompt_toolkit.auto_suggest import Suggestion as Shown
from prompt_toolkit.buffer import Buffer
from prompt_toolkit.document import Document
from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent

import pocketgpt

DEMO = Path(__file__).resolve().parents[2] / "models" / "demo"  # what `make demo` leaves


class Typist(AutoSuggest):  # type: ignore[misc]  # it is not there where types are checked
    """prompt_toolkit's side: it asks for one suggestion at a time, and again if the text changed.

    Attributes:
        lines: what was typed before the line that is being typed.
        newest: the newest suggestion that was not cancelled.
    """

    def __init__(self, completer: Completer) -> None:
        """Suggest by a completer."""
        self.completer = completer
        self.lines = ""
        self.newest: Suggestion | None = None

    def get_suggestion(self, buffer: Buffer, document: Document) -> Shown | None:
        """Not asked for: prompt_toolkit's event loop awaits the other."""
        raise NotImplementedError

    async def get_suggestion_async(self, buffer: Buffer, document: Document) -> Shown | None:
        """Compute in a thread beside the event loop, which reads the keys meanwhile."""
        if not document.is_cursor_at_the_end:
            return None
        pending = self.completer.begin(self.lines + document.text)
        made = await asyncio.to_thread(pending.result)
        if buffer.document == document:
            self.newest = made
        return Shown(made.text) if made.text else None

    def cancel(self, _: Buffer) -> None:
        """A key was pressed."""
        self.completer.cancel()

    def toolbar(self) -> str:
        """What the newest suggestion took."""
        if self.newest is None:
            return "Tab takes what is grey"
        milliseconds = 1e3 * self.newest.seconds
        return f"{milliseconds:.0f} ms, {self.newest.computed} tokens computed"


def take(event: KeyPressEvent) -> None:
    """Put the suggestion into the text."""
    buffer = event.current_buffer
    if buffer.suggestion:
        buffer.insert_text(buffer.suggestion.text)


def main() -> int:
    try:
        model = pocketgpt.load(Path(sys.argv[1]) if len(sys.argv) > 1 else DEMO)
        typist = Typist(Completer(model))
    except pocketgpt.PocketGPTError as error:
        print(f"autocomplete: {error}", file=sys.stderr)
        return 1
    keys = KeyBindings()
    keys.add("tab")(take)  # the right arrow does it too, by prompt_toolkit
    prompt: PromptSession[str] = PromptSession(
        auto_suggest=typist, key_bindings=keys, bottom_toolbar=typist.toolbar
    )
    prompt.default_buffer.on_text_changed += typist.cancel
    while True:
        try:
            typist.lines += prompt.prompt("> ") + "\n"
        except (EOFError, KeyboardInterrupt):
            return 0


if __name__ == "__main__":
    sys.exit(main())
