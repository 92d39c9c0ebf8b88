"""What ended texts leave in memory, within bounds: a prompt that begins alike goes on from it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..engine.contract import Array

Ids = NDArray[np.int64]
MOST_KEPT = 512  # texts: every new prompt is compared with each


@dataclass(frozen=True, eq=False)
class Prefix:
    """A text's tokens with their keys and values, each `[n_layer, n_head, tokens, head_dim]`.

    `adapter` names the LoRA adapter that they were computed with.
    """

    adapter: str | None
    ids: Ids
    keys: Array
    values: Array

    @property
    def bytes(self) -> int:
        """Size of the keys and values."""
        return self.keys.nbytes + self.values.nbytes


class PrefixCache:
    """The keys and values of ended texts, least lately used first. Threads may share it.

    What was computed with one adapter is of no use to another: `of` gives what there is of each.
    """

    def __init__(self, limit: int) -> None:
        """Keep at most `limit` bytes, and `MOST_KEPT` texts; 0 keeps nothing."""
        self._limit = limit
        self._kept: list[Prefix] = []
        self._lock = threading.Lock()

    @property
    def bytes(self) -> int:
        """Size of what is kept."""
        with self._lock:
            return self._bytes()

    def of(self, adapter: str | None) -> Prefixes:
        """Return what texts with an adapter leave here, or those without any."""
        return Prefixes(self, adapter)

    def longest(self, adapter: str | None, ids: Ids) -> tuple[int, Prefix] | None:
        """Return the text that begins most like `ids`, and how many tokens they share."""
        with self._lock:
            kept = [prefix for prefix in self._kept if prefix.adapter == adapter]
            if not kept:
                return None
            shared = [common_prefix(prefix.ids, ids) for prefix in kept]
            best = int(np.argmax(shared))
            self._kept.remove(kept[best])
            self._kept.append(kept[best])
            return shared[best], kept[best]

    def put(self, adapter: str | None, ids: Ids, read: Callable[[], tuple[Array, Array]]) -> None:
        """Keep a text, if it is not the beginning of one that is kept; it replaces its own."""
        if not self._limit or not len(ids):
            return
        with self._lock:
            if any(_begins(ids, prefix.ids) for prefix in self._kept if prefix.adapter == adapter):
                return
        new = Prefix(adapter, ids.copy(), *read())
        with self._lock:
            self._kept = [
                other
                for other in self._kept
                if other.adapter != adapter or not _begins(other.ids, new.ids)
            ]
            self._kept.append(new)
            while self._bytes() > self._limit or len(self._kept) > MOST_KEPT:
                self._kept.pop(0)

    def _bytes(self) -> int:
        return sum(prefix.bytes for prefix in self._kept)


@dataclass(frozen=True)
class Prefixes:
    """What the texts with one adapter, or without any, left in a cache."""

    cache: PrefixCache
    adapter: str | None = None

    def longest(self, ids: Ids) -> tuple[int, Prefix] | None:
        """Return the text that begins most like `ids`, and how many tokens they share."""
        return self.cache.longest(self.adapter, ids)

    def put(self, ids: Ids, read: Callable[[], tuple[Array, Array]]) -> None:
        """Keep a text, if it is not the beginning of one that is kept; it replaces its own."""
        self.cache.put(self.adapter, ids, read)


def _begins(first: Ids, second: Ids) -> bool:
    """Whether all of the first text begins the second."""
    return common_prefix(first, second) == len(first)


def common_prefix(first: Ids | Sequence[int], second: Ids | Sequence[int]) -> int:
    """Return how many leading tokens two texts have in common."""
    shorter = min(len(first), len(second))
    differing = np.asarray(first[:shorter]) != np.asarray(second[:shorter])
    return int(differing.argmax()) if differing.any() else shorter
