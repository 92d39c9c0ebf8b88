"""What the server is told at its start; it can be pickled for worker processes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .. import validate
from ..errors import OptionError


@dataclass(frozen=True)
class ModelSpec:
    """A model to serve.

    Attributes:
        name: what requests call it.
        folder: where it lies.
        options: `load`'s: variant, provider, threads and so on.
        adapters: LoRA adapters' folders by the names that requests call them.
    """

    name: str
    folder: Path
    options: Mapping[str, Any] = field(default_factory=dict)
    adapters: Mapping[str, Path] = field(default_factory=dict)


@dataclass(frozen=True)
class Limits:
    """How much is taken on. Nothing is unbounded.

    Attributes:
        slots: texts that are computed at once, of each name.
        queue: texts that may wait for a slot; more are refused with 429.
        texts: texts of one request: its prompts times n.
        body: bytes of a request.
        seconds: a request's time, waiting included.
        upload: seconds that a request's body may take to come.
        grace: seconds that running requests get when the server stops.
        prefix_cache: bytes of ended texts' keys and values, of each model.
    """

    slots: int = 16
    queue: int = 128
    texts: int = 128
    body: int = 1 << 20
    seconds: float = 600.0
    upload: float = 30.0
    grace: float = 30.0
    prefix_cache: int = 256 << 20

    def __post_init__(self) -> None:
        """Check the numbers.

        Raises:
            OptionError: one is out of range.
        """
        for name in ("slots", "texts", "body"):
            validate.whole(name, getattr(self, name), at_least=1)
        for name in ("queue", "prefix_cache"):
            validate.whole(name, getattr(self, name), at_least=0)
        for name in ("seconds", "upload"):
            validate.number(name, getattr(self, name), above=0)
        validate.number("grace", self.grace, at_least=0)


@dataclass(frozen=True)
class Settings:
    """All of it.

    Attributes:
        models: at least one, each by a name of its own.
        limits: see `Limits`.
        keys: API keys, one of which a request has to bring; none for no question.
        origins: web pages' origins that may ask from a browser.
        hosts: names that the server may be called by; None for any.
        host, port: where it listens; port 0 takes a free one.
        workers: processes.
        access_log: whether to write a line for each request.
    """

    models: tuple[ModelSpec, ...]
    limits: Limits = field(default_factory=Limits)
    keys: tuple[str, ...] = field(default=(), repr=False)
    origins: tuple[str, ...] = ()
    hosts: tuple[str, ...] | None = None
    host: str = "127.0.0.1"
    port: int = 8000
    workers: int = 1
    access_log: bool = False

    def __post_init__(self) -> None:
        """Check the names and numbers.

        Raises:
            OptionError: two models have one name, or a number is out of range.
        """
        validate.whole("workers", self.workers, at_least=1)
        validate.whole("port", self.port, at_least=0)
        if self.port > 65535:
            raise OptionError(f"port should be at most 65535, not {self.port}")
        names = [name for spec in self.models for name in (spec.name, *spec.adapters)]
        for name in names:
            if not name or names.count(name) > 1:
                raise OptionError(
                    f"each model and adapter needs a name of its own, and {name!a:.60} is "
                    f"{'empty' if not name else 'given twice'}"
                )
