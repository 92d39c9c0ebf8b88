"""The key-value cache: one buffer per layer and side, grown as it fills."""

from __future__ import annotations

import numpy as np
from numpy.typing import DTypeLike, NDArray

from .config import ModelConfig

BLOCK = 64  # tokens; capacities are multiples of it


class KeyValueCache:
    """Keys and values of the tokens seen so far, for one row.

    `keys[i]` and `values[i]` are `[1, n_head, capacity, head_dim]`; the first `length` positions
    are filled. ONNX Runtime appends to them in place, so a buffer stays where it is until `reserve`
    replaces it.
    """

    def __init__(self, config: ModelConfig, dtype: DTypeLike) -> None:
        """Start with no room: the first `reserve` allocates."""
        self._config = config
        self._dtype = dtype
        self.length = 0
        self.capacity = 0
        self.keys: list[NDArray[np.generic]] = []
        self.values: list[NDArray[np.generic]] = []
        self._allocate(0)

    def reserve(self, tokens: int) -> bool:
        """Make room for `tokens` in all; return whether the buffers moved.

        Capacity doubles, up to the context, so that a text of n tokens copies less than 2n.
        """
        if tokens <= self.capacity:
            return False
        doubled = max(tokens, 2 * self.capacity)
        old_keys, old_values = self.keys, self.values
        self._allocate(min(-(-doubled // BLOCK) * BLOCK, max(self._config.n_positions, tokens)))
        filled = np.s_[:, :, : self.length]
        for new, old in zip(self.keys + self.values, old_keys + old_values, strict=True):
            new[filled] = old[filled]
        return True

    def _allocate(self, capacity: int) -> None:
        config = self._config
        shape = (1, config.n_head, capacity, config.head_dim)
        self.capacity = capacity
        self.keys = [np.zeros(shape, self._dtype) for _ in range(config.n_layer)]
        self.values = [np.zeros(shape, self._dtype) for _ in range(config.n_layer)]
