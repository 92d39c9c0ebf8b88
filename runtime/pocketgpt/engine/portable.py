"""Passes over a portable graph, whose cache comes back anew from every pass.

On a device it stays there from pass to pass. The buffers are the host's: what is between passes is
written to them once somebody asks for it, or for other slots.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

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
    check_every,
    output_names,
    past_name,
)
from .mover import Value
from .passes import Lengths, Logits, side_by_side

Run = Callable[[Sequence[str], Mapping[str, Value]], list[Value]]


@dataclass
class _Live:
    """What the last pass made, which the next one of the same slots takes as it is.

    The slots begin with `first`; `lengths` are their tokens, `present` the cache's outputs for
    them; `mask`, `[slots, columns]`, tells which columns of theirs hold tokens: all new ones stand
    behind the longest past.
    """

    first: int
    lengths: Lengths
    mask: NDArray[np.bool_]
    present: list[Value]

    def is_of(self, first: int, lengths: Lengths) -> bool:
        """Whether these are the texts of `lengths` tokens in the slots from `first` on."""
        return self.first == first and np.array_equal(self.lengths, lengths)


class PortablePasses:
    """A pass hands the cache that came out of the one before on; all else goes by the buffers."""

    widest = 1
    _also: ClassVar[Mapping[str, Value]] = {}  # what else is fed

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
        positions = np.arange(start, start + len(token_ids))[None]
        ids = np.array([token_ids], np.int64)
        logits: Logits = self._append(ids, positions, slot, np.array([start]))[0]
        return logits

    def check(self, chunks: Sequence[Sequence[int]], lengths: Lengths) -> list[Logits]:
        raise NotImplementedError

    def fill(self, prompts: Sequence[Sequence[int]], first: int) -> Logits:
        self.settle()
        token_ids, positions, mask = side_by_side(prompts)
        lengths = mask.sum(axis=1)
        self._cache.reserve(mask.shape[1])
        live = self._gather(first, np.zeros_like(lengths))
        logits, present = self._pass(token_ids, mask, np.where(mask, positions, 0), live.present)
        self._live = _Live(first, lengths, mask, present)
        last: Logits = logits[np.arange(len(prompts)), lengths - 1]
        return last

    def step(self, token_ids: Sequence[int], lengths: Lengths) -> Logits:
        ids = np.array(token_ids, np.int64)[:, None]
        logits: Logits = self._append(ids, lengths[:, None], 0, lengths)[:, 0]
        return logits

    def _append(
        self,
        token_ids: NDArray[np.int64],
        positions: NDArray[np.int64],
        first: int,
        lengths: Lengths,
    ) -> Logits:
        """Put as many tokens behind each text; return `[slots, tokens, vocab_size]`."""
        live = self._live
        if live is None or not live.is_of(first, lengths):
            live = self._gather(first, lengths)
        new = token_ids.shape[1]
        mask = np.concatenate([live.mask, np.ones((len(lengths), new), np.bool_)], axis=1)
        logits, present = self._pass(token_ids, mask, positions, live.present)
        self._live = _Live(first, lengths + new, mask, present)
        return logits

    def settle(self) -> None:
        """Write what the last passes made into the buffers."""
        live, self._live = self._live, None
        if live is None:
            return
        self._cache.reserve(int(live.lengths.max()))
        made = [on_host(value) for value in live.present]
        for slot, kept in enumerate(live.mask, live.first):
            new = np.stack([array[slot - live.first, :, kept] for array in made])
            new = np.moveaxis(new, 1, 2)  # a mask's axis comes first: [tokens, n_head, head_dim]
            self._cache.write(slot, 0, new[: self._n_layer], new[self._n_layer :])

    def _gather(self, first: int, lengths: Lengths) -> _Live:
        """Read the texts in the slots from `first` on from the buffers, side by side."""
        self.settle()
        longest = int(lengths.max())
        self._cache.reserve(longest)
        slots = [self._cache.read(slot, longest) for slot in range(first, first + len(lengths))]
        keys = np.stack([keys for keys, _ in slots], axis=1)
        values = np.stack([values for _, values in slots], axis=1)
        mask = np.arange(longest) < lengths[:, None]
        return _Live(first, lengths.copy(), mask, [*keys, *values])

    def _pass(
        self,
        token_ids: NDArray[np.int64],
        mask: NDArray[np.bool_],
        positions: NDArray[np.int64],
        past: Sequence[Value],
    ) -> tuple[Logits, list[Value]]:
        """Return `[slots, tokens, vocab_size]` and the grown cache, keys before values."""
        feeds: dict[str, Value] = {
            INPUT_IDS: token_ids,
            ATTENTION_MASK: mask.astype(np.int64),
            POSITION_IDS: np.ascontiguousarray(positions, np.int64),
            **self._also,
        }
        places = [(layer, side) for side in SIDES for layer in range(self._n_layer)]
        for (layer, side), value in zip(places, past, strict=True):
            feeds[past_name(layer, side)] = value
        begin = time.perf_counter()
        logits, *present = self._run(self._outputs, feeds)
        self.seconds += time.perf_counter() - begin
        every = on_host(logits)
        check_every(every, token_ids.shape[1])
        return every, [*present[::2], *present[1::2]]  # they come layer by layer


def on_host(value: Value) -> Array:
    """Return an array as it is, or what a device holds, copied."""
    array: Array = value if isinstance(value, np.ndarray) else value.numpy()
    return array
