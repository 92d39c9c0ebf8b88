"""How verbs open a model: as `load`, saying so when the self-test of a provider takes long."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Timer
from typing import Any

from ..model import Model, load
from .console import progress_console

PATIENCE = 1.0  # seconds


def open_model(folder: Path, variant: str | None, **options: Any) -> Model:
    """Load a model; `options` are those of `load`."""
    with said_when_long() as progress:
        return load(folder, variant, progress=progress, **options)


@contextmanager
def said_when_long() -> Iterator[Callable[[str, int, int], None]]:
    """Yield a function to call with (what is done now, units done, units in all).

    Its first call starts a clock, which after a second prints what is done, unless all is by then.
    """
    timers: list[Timer] = []

    def report(description: str, done: int, total: int) -> None:
        if not timers:
            line = f"{description}, once: its answers are compared with the CPU's"
            timers.append(Timer(PATIENCE, progress_console.print, [line]))
            timers[0].daemon = True
            timers[0].start()
        if done == total:
            timers.pop().cancel()

    try:
        yield report
    finally:
        for timer in timers:
            timer.cancel()
