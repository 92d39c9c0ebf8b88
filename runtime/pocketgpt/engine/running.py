"""How a model is to be run: on what, and at what price."""

from __future__ import annotations

from dataclasses import dataclass

from .providers import Provider
from .selftest import Progress


@dataclass(frozen=True)
class Running:
    """What `pocketgpt.load` was told of it, under the same names."""

    provider: Provider = "auto"
    threads: int | None = None
    low_memory: bool = False
    strict: bool = False
    selftest: bool = True
    progress: Progress | None = None
