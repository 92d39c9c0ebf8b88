"""The key-value cache's memory: one buffer per layer and side for all slots, grown as it fills.

    Buffers           what a decoder asks for
    ├── HostBuffers   numpy arrays
    └── DeviceBuffers OrtValues in a device's memory

A buffer is `[slots, n_head, capacity, head_dim]`. ONNX Runtime appends to it in place, so it stays
where it is until `reserve` replaces it; on a device whatever else changes it replaces it too. What
a slot holds, and how much of it, its decoder knows.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from ..errors import InferenceError
from ..folder.config import ModelConfig
from .contract import SIDES, Array, past_name, present_name
from .mover import Mover, Value

BLOCK = 64  # tokens; capacities are multiples of it


class Buffers(ABC):
    """Keys and values of `slots` texts.

    Attributes:
        slots: how many texts there is room for.
        capacity: tokens that fit each of them.
        dtype: of the numbers.
    """

    def __init__(self, config: ModelConfig, dtype: np.dtype[Any], slots: int) -> None:
        """Start with no room for tokens: the first `reserve` allocates."""
        self.slots = slots
        self.capacity = 0
        self.dtype = dtype
        self._config = config
        self._names = [(layer, side) for side in SIDES for layer in range(config.n_layer)]

    @property
    def bytes(self) -> int:
        """Size of all buffers."""
        return len(self._names) * self._slot_bytes * self.slots

    def reserve(self, tokens: int) -> bool:
        """Make room for `tokens` in every slot; return whether the buffers moved.

        Capacity doubles, up to the context, so that a text of n tokens copies less than 2n.
        """
        if tokens <= self.capacity:
            return False
        doubled = max(tokens, 2 * self.capacity)
        filled, context = self.capacity, self._config.n_positions
        self.capacity = min(-(-doubled // BLOCK) * BLOCK, max(context, tokens))
        try:
            self._grow(filled)
        except (MemoryError, ValueError) as error:  # NumPy's, of a size that no array has
            size, self.capacity = self.bytes, filled
            raise InferenceError(
                f"the cache of {self.slots} texts of {tokens} tokens takes {size / 1e9:.1f} GB, "
                "and there is no memory for it; decode fewer at once (batch_size, num_beams)"
            ) from error
        except InferenceError:  # a device's memory gave out
            self.capacity = filled
            raise
        return True

    @property
    def _slot_bytes(self) -> int:
        """Size of one slot of one buffer."""
        config = self._config
        return config.n_head * self.capacity * config.head_dim * self.dtype.itemsize

    def _shape(self) -> tuple[int, int, int, int]:
        return self.slots, self._config.n_head, self.capacity, self._config.head_dim

    @abstractmethod
    def copy_slot(self, source: int, target: int, start: int, end: int) -> None:
        """Make the tokens from `start` to before `end` of slot `target` those of `source`."""

    @abstractmethod
    def read(self, slot: int, end: int) -> tuple[Array, Array]:
        """Return the keys and the values of a slot's tokens before `end`, copied.

        Each is `[n_layer, n_head, end, head_dim]`.
        """

    def write(self, slot: int, start: int, keys: Array, values: Array) -> None:
        """Put keys and values, each `[n_layer, n_head, tokens, head_dim]`, at `start` of a slot."""
        if keys.shape[2]:  # there may be no buffers yet
            self.put(slot, start, [layer[None] for layer in (*keys, *values)])

    @abstractmethod
    def put(self, first: int, start: int, new: Sequence[Array]) -> None:
        """Put `new`, keys of every layer before values, at `start` of the slots from `first` on.

        Each is `[slots, n_head, tokens, head_dim]`.
        """

    @abstractmethod
    def _grow(self, filled: int) -> None:
        """Move the first `filled` tokens of every slot to buffers of the new capacity."""

    @abstractmethod
    def addresses(self) -> list[int]:
        """Where each buffer begins, keys of every layer before values."""


class HostBuffers(Buffers):
    """Buffers in the process's own memory, which is taken only as slots are filled."""

    def __init__(self, config: ModelConfig, dtype: np.dtype[Any], slots: int = 1) -> None:
        super().__init__(config, dtype, slots)
        self._arrays: list[Array] = []

    def copy_slot(self, source: int, target: int, start: int, end: int) -> None:
        for array in self._arrays:
            array[target, :, start:end] = array[source, :, start:end]

    def read(self, slot: int, end: int) -> tuple[Array, Array]:
        if not self._arrays:
            self._arrays = self._allocate()
        filled = [array[slot, :, :end] for array in self._arrays]
        n_layer = self._config.n_layer
        return np.stack(filled[:n_layer]), np.stack(filled[n_layer:])

    def put(self, first: int, start: int, new: Sequence[Array]) -> None:
        for array, part in zip(self._arrays, new, strict=True):
            slots, _, tokens, _ = part.shape
            array[first : first + slots, :, start : start + tokens] = part

    def _grow(self, filled: int) -> None:
        grown = self._allocate()
        old, self._arrays = self._arrays, grown
        for new, before in zip(self._arrays, old, strict=False):
            new[:, :, :filled] = before

    def _allocate(self) -> list[Array]:
        return [np.zeros(self._shape(), self.dtype) for _ in self._names]

    def addresses(self) -> list[int]:
        return [array.ctypes.data for array in self._arrays]

    def bind(self, binding: ort.IOBinding, first: int, last: int, *, in_place: bool = True) -> None:
        """Bind the slots from `first` to before `last` as past, and as present, in place.

        Where not `in_place`, ONNX Runtime allocates the present ones: the binding's outputs, keys
        of every layer before values, are for `put`.
        """
        shape = [last - first, self._config.n_head, self.capacity, self._config.head_dim]
        for (layer, side), address in zip(self._names, self.addresses(), strict=True):
            at = address + first * self._slot_bytes
            binding.bind_input(past_name(layer, side), "cpu", 0, self.dtype, shape, at)
            name = present_name(layer, side)
            if in_place:
                binding.bind_output(name, "cpu", 0, self.dtype, shape, at)
            else:
                binding.bind_output(name)


class DeviceBuffers(Buffers):
    """Buffers that stay on a device: what happens to them happens there, by a `Mover`.

    Attributes:
        values: the buffers, keys of every layer before values; another list once one was replaced.
        fixed: whether growth alone replaces them, where they may be written as they are read.
    """

    def __init__(
        self,
        config: ModelConfig,
        dtype: np.dtype[Any],
        slots: int,
        mover: Mover,
        *,
        fixed: bool = False,
    ) -> None:
        super().__init__(config, dtype, slots)
        self.values: list[ort.OrtValue] = []
        self.fixed = fixed
        self._mover = mover

    def rows(self, first: int, last: int) -> list[ort.OrtValue]:
        """Return a copy of the slots from `first` to before `last`; `put` takes them back."""
        return self._mover.move(self.values, np.arange(first, last), np.arange(self.capacity))

    def copy_slot(self, source: int, target: int, start: int, end: int) -> None:
        rows, times = np.arange(self.slots), np.arange(self.capacity)
        mask = _wanted(rows == target, (start <= times) & (times < end))
        rows[target] = source
        self._change(self.values, rows, times, mask)

    def read(self, slot: int, end: int) -> tuple[Array, Array]:
        n_layer, n_head, head_dim = self._config.n_layer, self._config.n_head, self._config.head_dim
        if end == 0:
            nothing = np.zeros((n_layer, n_head, 0, head_dim), self.dtype)
            return nothing, nothing.copy()
        found = self._mover.fetch(self.values, np.array([slot]), np.arange(end))
        filled = np.concatenate(found)
        return filled[:n_layer], filled[n_layer:]

    def put(self, first: int, start: int, new: Sequence[Value]) -> None:
        slots, _, tokens, _ = new[0].shape if isinstance(new[0], np.ndarray) else new[0].shape()
        rows, times = np.arange(self.slots) - first, np.arange(self.capacity) - start
        mask = _wanted((rows >= 0) & (rows < slots), (times >= 0) & (times < tokens))
        self._change(new, rows.clip(0, slots - 1), times.clip(0, tokens - 1), mask)

    def _change(
        self,
        sources: Sequence[Value],
        rows: NDArray[np.int64],
        times: NDArray[np.int64],
        mask: NDArray[np.bool_],
    ) -> None:
        """Replace what `mask` wants by `sources`."""
        into = self.values if self.fixed else None
        moved = self._mover.move(sources, rows, times, mask, self.values, into)
        if into is None:
            self.values = moved

    def _grow(self, filled: int) -> None:
        times = np.arange(self.capacity)
        mask = _wanted(np.ones(1, np.bool_), times < filled)
        if filled:
            rows, times = np.arange(self.slots), times.clip(0, filled - 1)
            self.values = self._mover.move(self.values, rows, times, mask)
            return
        nothing = np.zeros((1, self._config.n_head, 1, self._config.head_dim), self.dtype)
        rows, times = np.zeros(self.slots, np.int64), np.zeros_like(times)
        self.values = self._mover.move([nothing] * len(self._names), rows, times, mask)

    def addresses(self) -> list[int]:
        return [value.data_ptr() for value in self.values]


def _wanted(rows: NDArray[np.bool_], times: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return which places of a buffer are wanted: `[slots, 1, tokens, 1]`."""
    return rows[:, None, None, None] & times[:, None]
