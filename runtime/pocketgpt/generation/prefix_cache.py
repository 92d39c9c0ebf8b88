"""What ended texts leave in memory, within bounds: a prompt that begins alike goes on from it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..engine.contract import Array

Ids = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Prefix:
    """A text's tokens with their keys and values, each `[n_layer, n_head, tokens, head_dim]`."""

    ids: Ids
    keys: Array
    values: Array

    @property
    def bytes(self) -> int:
        """Size of the keys and values."""
        return self.keys.nbytes + self.values.nbytes


class PrefixCache:
    """The keys and values of ended texts, least lately used first. Threads may share it."""

    def __init__(self, limit: int) -> None:
        """Keep at most `limit` bytes; 0 keeps nothing."""
        self._limit = limit
        self._kept: list[Prefix] = []
        self._lock = threading.Lock()

    @property
    def bytes(self) -> int:
        """Size of what is kept."""
        with self._lock:
            return self._bytes()

    def longest(self, ids: Ids) -> tuple[int, Prefix] | None:
        """Return the text that begins most like `ids`, and how many tokens they share."""
        with self._lock:
            if not self._kept:
                return None
            shared = [common_prefix(prefix.ids, ids) for prefix in self._kept]
            best = int(np.argmax(shared))
            prefix = self._kept.pop(best)
            self._kept.append(prefix)
            return shared[best], prefix

    def put(self, ids: Ids, read: Callable[[], tuple[Array, Array]]) -> None:
        """Keep a text, if it is not the beginning of one that is kept; it replaces its own."""
        if not self._limit or not len(ids):
            return
        with self._lock:
            if any(common_prefix(prefix.ids, ids) == len(ids) for prefix in self._kept):
                return
        prefix = Prefix(ids.copy(), *read())
        with self._lock:
            self._kept = [
                other
                for other in self._kept
                if common_prefix(other.ids, prefix.ids) < len(other.ids)
            ]
            self._kept.append(prefix)
            while self._bytes() > self._limit:
                self._kept.pop(0)

    def _bytes(self) -> int:
        return sum(prefix.bytes for prefix in self._kept)


def common_prefix(first: Ids | Sequence[int], second: Ids | Sequence[int]) -> int:
    """Return how many leading tokens two texts have in common."""
    shorter = min(len(first), len(second))
    differing = np.asarray(first[:shorter]) != np.asarray(second[:shorter])
    return int(differing.argmax()) if differing.any() else shorter
