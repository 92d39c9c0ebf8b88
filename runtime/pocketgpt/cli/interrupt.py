"""Ctrl-C ends a generation with what was made, instead of in the middle of a step."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

INTERRUPTED = 130  # the exit code shells expect: 128 and SIGINT's number


@contextmanager
def cancel_on_interrupt(cancel: Callable[[], None]) -> Iterator[Callable[[], bool]]:
    """Call `cancel` at the first Ctrl-C; a second one interrupts as ever.

    Yields:
        A function that tells whether it was pressed.
    """
    pressed = False

    def handle(number: int, frame: FrameType | None) -> None:
        nonlocal pressed
        pressed = True
        signal.signal(signal.SIGINT, signal.default_int_handler)
        cancel()

    before = signal.signal(signal.SIGINT, handle)
    try:
        yield lambda: pressed
    finally:
        signal.signal(signal.SIGINT, before)
