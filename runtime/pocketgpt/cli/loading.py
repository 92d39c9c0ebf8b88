"""How verbs open a model: by flags that all of them have, as `load` does.

They say so when the self-test of a provider takes long.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Timer
from typing import Any

from ..model import Model, load
from . import options
from .console import progress_console
from .flags import with_flags

PATIENCE = 1.0  # seconds
ADAPTER = "adapter"  # the name that a command line's one adapter is loaded by
# By `load`'s names, but for the adapter: how each is declared, and what it is where it is not said.
_FLAGS: dict[str, tuple[Any, Any]] = {
    "variant": (options.VariantOption, None),
    "revision": (options.RevisionOption, None),
    "provider": (options.ProviderOption, "auto"),
    "strict": (options.StrictOption, False),
    "selftest": (options.SelftestOption, True),
    "threads": (options.ThreadsOption, None),
    "low_memory": (options.LowMemoryOption, False),
    "kv_cache": (options.KvCacheOption, "auto"),
    "prefill_variant": (options.PrefillVariantOption, None),
    "adapter": (options.AdapterOption, None),
    "assistant": (options.AssistantOption, None),
}


@dataclass(frozen=True)
class Loading:
    """How a command line wants a model loaded: `load`'s options, and the name of its adapter."""

    options: Mapping[str, Any]
    adapter: str | None = None

    @classmethod
    def of(cls, given: dict[str, Any]) -> Loading:
        """Take what the flags were given."""
        folder = given.pop("adapter", None)
        if folder is None:
            return cls(given)
        return cls({**given, "adapters": {ADAPTER: folder}}, ADAPTER)

    def open(self, folder: Path) -> Model:
        """Load the model."""
        with said_when_long() as progress:
            return load(folder, progress=progress, **self.options)


def with_loading_flags(*left_out: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a verb the flags by which a model is loaded; they reach it as its argument `loading`.

    Args:
        left_out: the names of those that would do nothing for it.
    """
    flags = {name: flag for name, flag in _FLAGS.items() if name not in left_out}

    def decorated(verb: Callable[..., None]) -> Callable[..., None]:
        return with_flags(verb, "loading", flags, Loading.of)

    return decorated


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
