"""The key-value cache: one buffer per layer and side for all rows, grown as it fills."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import DTypeLike, NDArray

from ..folder.config import ModelConfig

BLOCK = 64  # tokens; capacities are multiples of it


class KeyValueCache:
    """Keys and values of the tokens seen so far, for `batch_size` rows.

    `keys[i]` and `values[i]` are `[batch_size, n_head, capacity, head_dim]`; the first `lengths[r]`
    positions of row r are filled. ONNX Runtime appends to them in place, so a buffer stays where it
    is until `reserve` replaces it.
    """

    def __init__(self, config: ModelConfig, dtype: DTypeLike, batch_size: int = 1) -> None:
        """Start with no room: the first `reserve` allocates."""
        self._config = config
        self._dtype = dtype
        self.lengths = np.zeros(batch_size, np.int64)
        self.capacity = 0
        self.keys: list[NDArray[np.generic]] = []
        self.values: list[NDArray[np.generic]] = []
        self._allocate(0)

    @property
    def batch_size(self) -> int:
        """How many rows there are."""
        return len(self.lengths)

    @property
    def length(self) -> int:
        """Tokens in the longest row."""
        return int(self.lengths.max())

    @length.setter
    def length(self, tokens: int) -> None:
        self.lengths[:] = tokens

    @property
    def bytes(self) -> int:
        """Size of all buffers."""
        return sum(buffer.nbytes for buffer in self._buffers())

    def reserve(self, tokens: int) -> bool:
        """Make room for `tokens` in every row; return whether the buffers moved.

        Capacity doubles, up to the context, so that a text of n tokens copies less than 2n.
        """
        if tokens <= self.capacity:
            return False
        doubled = max(tokens, 2 * self.capacity)
        old = list(self._buffers())
        self._allocate(min(-(-doubled // BLOCK) * BLOCK, max(self._config.n_positions, tokens)))
        filled = np.s_[:, :, : self.length]
        for new, before in zip(self._buffers(), old, strict=True):
            new[filled] = before[filled]
        return True

    def copy_row(self, source: int, target: int, start: int = 0) -> None:
        """Make row `target` equal to row `source`, where the first `start` tokens are the same."""
        end = int(self.lengths[source])
        for buffer in self._buffers():
            buffer[target, :, start:end] = buffer[source, :, start:end]
        self.lengths[target] = end

    def keep_rows(self, rows: Sequence[int]) -> None:
        """Drop all rows but `rows`, which ascend; row `rows[i]` becomes row i.

        The buffers stay where they are, seen through shorter views.
        """
        for target, source in enumerate(rows):
            if source != target:
                self.copy_row(source, target)
        self.lengths = self.lengths[: len(rows)].copy()
        self.keys = [buffer[: len(rows)] for buffer in self.keys]
        self.values = [buffer[: len(rows)] for buffer in self.values]

    def copy(self) -> KeyValueCache:
        """Return a cache of its own with the same content."""
        twin = KeyValueCache(self._config, self._dtype, self.batch_size)
        twin.reserve(self.length)
        twin.lengths[:] = self.lengths
        filled = np.s_[:, :, : self.length]
        for new, before in zip(twin._buffers(), self._buffers(), strict=True):
            new[filled] = before[filled]
        return twin

    def _buffers(self) -> Iterator[NDArray[np.generic]]:
        yield from self.keys
        yield from self.values

    def _allocate(self, capacity: int) -> None:
        config = self._config
        shape = (self.batch_size, config.n_head, capacity, config.head_dim)
        self.capacity = capacity
        self.keys = [np.zeros(shape, self._dtype) for _ in range(config.n_layer)]
        self.values = [np.zeros(shape, self._dtype) for _ in range(config.n_layer)]
