"""Caches of earlier texts, kept within bounds: a prompt that begins like one goes on from it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from ..engine.decoder import Decoder
from .sequence import Row


class PrefixCache:
    """Decoders of ended texts, the latest last; as many as fit. Threads may share it."""

    def __init__(self, limit: int) -> None:
        """Keep at most `limit` bytes of keys and values; 0 keeps nothing."""
        self._limit = limit
        self._kept: list[tuple[list[int], Decoder]] = []
        self._lock = threading.Lock()

    @property
    def bytes(self) -> int:
        """Size of what is kept."""
        with self._lock:
            return self._bytes()

    @contextmanager
    def decoder_for(self, row: Row, new_decoder: Callable[[int], Decoder]) -> Iterator[Decoder]:
        """Lend a decoder that holds as much of the row's prompt as any; take it back at the end."""
        decoder = self._take(row.prompt_ids) or new_decoder(1)
        yield decoder
        # Only a text that ended leaves a decoder that is sure to hold what its tokens say; after a
        # reprefill it holds other ones.
        if row.finish_reason is not None and not row.reprefills:
            self._put(row.ids[: decoder.cache.length].tolist(), decoder)

    def _take(self, prompt_ids: Sequence[int]) -> Decoder | None:
        with self._lock:
            shared = [common_prefix(ids, prompt_ids) for ids, _ in self._kept]
            longest = max(shared, default=0)
            if not longest:
                return None
            _, decoder = self._kept.pop(shared.index(longest))
        # The prompt's last token is computed in any case: its logits are wanted.
        decoder.rewind(min(longest, len(prompt_ids) - 1))
        return decoder

    def _put(self, token_ids: list[int], decoder: Decoder) -> None:
        with self._lock:
            self._kept.append((token_ids, decoder))
            while self._bytes() > self._limit:
                self._kept.pop(0)

    def _bytes(self) -> int:
        return sum(decoder.cache.bytes for _, decoder in self._kept)


def common_prefix(first: Sequence[int], second: Sequence[int]) -> int:
    """Return how many leading tokens two texts have in common."""
    pairs = zip(first, second, strict=False)
    shorter = min(len(first), len(second))
    return next((i for i, (one, other) in enumerate(pairs) if one != other), shorter)
