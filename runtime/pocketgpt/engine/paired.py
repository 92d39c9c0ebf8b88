"""Two graphs over one cache: long chunks go through one, steps and short ones through the other.

Blocks of few bits are the fastest to read, once a token; products of whole numbers the fastest to
compute with, for many tokens together. Two variants whose keys and values mean the same can share
a text: `Variant.basis` tells. What is scored goes through the steps' graph alone: it is what was
measured.
"""

from __future__ import annotations

from collections.abc import Sequence

from .passes import Lengths, Logits, Passes

LONG = 24  # tokens: from so many on the chunk's graph is the faster one


class PairedPasses:
    """`steps` and `chunks` are passes over the same buffers."""

    def __init__(self, steps: Passes, chunks: Passes) -> None:
        """Share a cache between two."""
        self._steps = steps
        self._chunks = chunks
        self._used = steps

    @property
    def seconds(self) -> float:
        return self._steps.seconds + self._chunks.seconds

    @property
    def widest(self) -> int:
        return self._steps.widest

    def append(self, token_ids: Sequence[int], slot: int, start: int) -> Logits:
        return self._for(len(token_ids)).append(token_ids, slot, start)

    def feed(self, token_ids: Sequence[int], slot: int, start: int) -> None:
        self._for(len(token_ids)).feed(token_ids, slot, start)

    def append_all(self, token_ids: Sequence[int], slot: int, start: int) -> Logits:
        return self._use(self._steps).append_all(token_ids, slot, start)

    def check(self, chunks: Sequence[Sequence[int]], lengths: Lengths) -> list[Logits]:
        return self._use(self._steps).check(chunks, lengths)

    def fill(self, prompts: Sequence[Sequence[int]], first: int) -> Logits:
        return self._for(sum(map(len, prompts))).fill(prompts, first)

    def step(self, token_ids: Sequence[int], lengths: Lengths) -> Logits:
        return self._use(self._steps).step(token_ids, lengths)

    def settle(self) -> None:
        self._used.settle()

    def _for(self, tokens: int) -> Passes:
        return self._use(self._chunks if tokens >= LONG else self._steps)

    def _use(self, passes: Passes) -> Passes:
        """Return what is to be used next, after the other has left all it knows in the buffers."""
        if passes is not self._used:
            self._used.settle()
            self._used = passes
        return passes
