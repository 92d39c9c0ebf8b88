"""examples/autocomplete in a terminal: typed at, looked at, left; its core: tests/examples.

`make test-autocomplete` installs prompt_toolkit, and pyte, which says what a terminal shows.
"""

from __future__ import annotations

import os
import pty
import select
import signal
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pyte
import pytest
from completer import Completer

import pocketgpt

from .conftest import FOLDER, ROOT

APP = ROOT / "examples" / "autocomplete" / "app.py"
PATIENCE = 30  # seconds
HEIGHT, WIDTH = 12, 100


class Terminal:
    """The app on a terminal of its own, and what that shows."""

    def __init__(self, child: subprocess.Popen[bytes], line: int) -> None:
        self.child, self._line = child, line
        self._screen = pyte.Screen(WIDTH, HEIGHT)
        # The app asks where its cursor is; a terminal answers.
        self._screen.write_process_input = self.type
        self._stream = pyte.ByteStream(self._screen)

    def type(self, text: str) -> None:
        os.write(self._line, text.encode())

    def look(self, seconds: float = 0.1) -> list[str]:
        """Read what comes within a while; return the screen's lines."""
        ready, _, _ = select.select([self._line], [], [], seconds)
        if ready:
            with suppress(OSError):  # the app has left
                self._stream.feed(os.read(self._line, 1 << 16))
        return [line.rstrip() for line in self._screen.display]

    def until(self, shows: Callable[[list[str]], bool]) -> list[str]:
        end = time.monotonic() + PATIENCE
        while not shows(lines := self.look()):
            assert time.monotonic() < end, f"the terminal shows {lines}"
        return lines

    @property
    def grey_from(self) -> int:
        """The cursor's place in its line: what is right of it is suggested."""
        return int(self._screen.cursor.x)


@contextmanager
def terminal(*arguments: object) -> Iterator[Terminal]:
    """Start the app; whatever happens, it is gone afterwards."""
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (HEIGHT, WIDTH))
    child = subprocess.Popen(
        [sys.executable, str(APP), *map(str, arguments)],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env={**os.environ, "TERM": "xterm-256color"},
        start_new_session=True,
    )
    os.close(theirs)
    try:
        yield Terminal(child, ours)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)
        child.wait(PATIENCE)
        os.close(ours)


@pytest.fixture(scope="module")
def completer() -> Completer:
    return Completer(pocketgpt.load(FOLDER))


def ended(app: Terminal) -> int | None:
    app.look()
    return app.child.poll()


def test_type_see_take_and_leave(completer: Completer) -> None:
    with terminal(FOLDER) as app:
        app.until(lambda lines: lines[0] == ">")
        typed = "Once upon a ti"
        suggested = completer.begin(typed).result().text
        assert suggested
        app.type(typed)
        app.until(lambda lines: lines[0] == f"> {typed}{suggested}")
        assert app.grey_from == len(f"> {typed}")
        app.until(lambda lines: any(" ms, " in line and "computed" in line for line in lines))

        app.type("\t")
        app.until(lambda _: app.grey_from == len(f"> {typed}{suggested}"))
        following = completer.begin(typed + suggested).result().text
        app.until(lambda lines: lines[0] == f"> {typed}{suggested}{following}"[:WIDTH])

        # The next line goes on from this one.
        app.type("\r")
        second = completer.begin(f"{typed}{suggested}\nThe w").result().text
        app.type("The w")
        app.until(lambda lines: lines[1] == f"> The w{second}")

        app.type("\x03")
        app.until(lambda _: ended(app) is not None)
        assert app.child.returncode == 0


def test_fast_typing_shows_the_last_text_s_suggestion(completer: Completer) -> None:
    """All keys at once, and corrections: each cancels what the one before it had begun."""
    with terminal(FOLDER) as app:
        app.until(lambda lines: lines[0] == ">")
        for key in "The king wes\x7f\x7fas very ":
            app.type(key)
            time.sleep(0.01)
        suggested = completer.begin("The king was very ").result().text
        app.until(lambda lines: lines[0] == f"> The king was very {suggested}".rstrip())
        app.type("\x15\x04")  # clear the line; the end
        app.until(lambda _: ended(app) is not None)
        assert app.child.returncode == 0


def test_a_folder_that_is_none_is_one_line(tmp_path: Path) -> None:
    with terminal(tmp_path / "none") as app:
        app.until(lambda _: ended(app) is not None)
        lines = "".join(app.look())  # the terminal's width breaks it
        assert app.child.returncode == 1
        assert lines.startswith("autocomplete: ")
        assert "Traceback" not in lines
