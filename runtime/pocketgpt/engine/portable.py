"""Passes over a portable graph, whose cache comes back as new arrays from every pass."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..folder.config import ModelConfig
from .buffers import Buffers
from .contract import (
    ATTENTION_MASK,
    INPUT_IDS,
    POSITION_IDS,
    SIDES,
    Array,
    output_names,
    past_name,
)
from .passes import Lengths, Logits, side_by_side

Run = Callable[[Sequence[str], Mapping[str, Array]], list[Array]]


@dataclass
class _Live:
    """What the last step made, which the next one takes as it is.

    `lengths` are the tokens of each slot stepped, `present` the cache's outputs for them; `mask`,
    `[slots, columns]`, tells which columns of theirs hold tokens: all new ones stand behind the
    longest past.
    """

    lengths: Lengths
    mask: NDArray[np.bool_]
    present: list[Array]


class PortablePasses:
    """A step hands the cache that came out of the one before on; all else goes by the buffers."""

    widest = 1

    def __init__(self, run: Run, config: ModelConfig, cache: Buffers) -> None:
        self.seconds = 0.0
        self._run = run
        self._cache = cache
        self._n_layer = config.n_layer
        self._outputs = output_names(config.n_layer)
        self._live: _Live | None = None

    def append(self, token_ids: Sequence[int], slot: int, start: int) -> Logits:
        return self.append_all(token_ids, slot, start)[-1:]

    def feed(self, token_ids: Sequence[int], slot: int, start: int) -> None:
        self.append_all(token_ids, slot, start)

    def append_all(self, token_ids: Sequence[int], slot: int, start: int) -> Logits:
        self.settle()
        self._cache.reserve(start + len(token_ids))
        keys, values = self._cache.read(slot, start)
        past = [layer[None] for layer in (*keys, *values)]
        mask = np.ones((1, start + len(token_ids)), np.bool_)
        positions = np.arange(start, start + len(token_ids))[None]
        logits, present = self._pass(np.array([token_ids], np.int64), mask, positions, past)
        new = np.stack([array[0, :, start:] for array in present])
        self._cache.write(slot, start, new[: self._n_layer], new[self._n_layer :])
        every: Logits = logits[0]
        return every

    def check(self, chunks: Sequence[Sequence[int]], lengths: Lengths) -> list[Logits]:
        raise NotImplementedError

    def fill(self, prompts: Sequence[Sequence[int]], first: int) -> Logits:
        self.settle()
        token_ids, positions, mask = side_by_side(prompts)
        lengths = mask.sum(axis=1)
        self._cache.reserve(mask.shape[1])
        keys, values = self._cache.read(first, 0)
        empty = [np.repeat(layer[None], len(prompts), axis=0) for layer in (*keys, *values)]
        logits, present = self._pass(token_ids, mask, np.where(mask, positions, 0), empty)
        for row, length in enumerate(lengths.tolist()):
            new = np.stack([array[row, :, :length] for array in present])
            self._cache.write(first + row, 0, new[: self._n_layer], new[self._n_layer :])
        last: Logits = logits[np.arange(len(prompts)), lengths - 1]
        return last

    def step(self, token_ids: Sequence[int], lengths: Lengths) -> Logits:
        live = self._live
        if live is None or not np.array_equal(live.lengths, lengths):
            live = self._gather(lengths)
        mask = np.concatenate([live.mask, np.ones((len(lengths), 1), np.bool_)], axis=1)
        logits, present = self._pass(
            np.array(token_ids, np.int64)[:, None], mask, lengths[:, None], live.present
        )
        self._live = _Live(lengths + 1, mask, present)
        after: Logits = logits[:, 0]
        return after

    def settle(self) -> None:
        """Write what the steps made into the buffers."""
        live, self._live = self._live, None
        if live is None:
            return
        self._cache.reserve(int(live.lengths.max()))
        for slot, kept in enumerate(live.mask):
            new = np.stack([array[slot, :, kept] for array in live.present])
            new = np.moveaxis(new, 1, 2)  # a mask's axis comes first: [tokens, n_head, head_dim]
            self._cache.write(slot, 0, new[: self._n_layer], new[self._n_layer :])

    def _gather(self, lengths: Lengths) -> _Live:
        """Read the first slots' texts from the buffers, side by side."""
        self.settle()
        longest = int(lengths.max())
        self._cache.reserve(longest)
        slots = [self._cache.read(slot, longest) for slot in range(len(lengths))]
        keys = np.stack([keys for keys, _ in slots], axis=1)
        values = np.stack([values for _, values in slots], axis=1)
        mask = np.arange(longest) < lengths[:, None]
        return _Live(lengths.copy(), mask, [*keys, *values])

    def _pass(
        self,
        token_ids: NDArray[np.int64],
        mask: NDArray[np.bool_],
        positions: NDArray[np.int64],
        past: Sequence[Array],
    ) -> tuple[Logits, list[Array]]:
        """Return `[slots, tokens, vocab_size]` and the grown cache, keys before values."""
        feeds: dict[str, Array] = {
            INPUT_IDS: token_ids,
            ATTENTION_MASK: mask.astype(np.int64),
            POSITION_IDS: np.ascontiguousarray(positions, np.int64),
        }
        places = [(layer, side) for side in SIDES for layer in range(self._n_layer)]
        for (layer, side), array in zip(places, past, strict=True):
            feeds[past_name(layer, side)] = np.ascontiguousarray(array)
        begin = time.perf_counter()
        logits, *present = self._run(self._outputs, feeds)
        self.seconds += time.perf_counter() - begin
        return logits, [*present[::2], *present[1::2]]  # they come layer by layer
