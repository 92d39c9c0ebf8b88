"""The key-value cache's memory: one buffer per layer and side for all slots, grown as it fills.

    Buffers           what a decoder asks for
    ├── HostBuffers   numpy arrays
    └── DeviceBuffers OrtValues, on any device whose memory has addresses

A buffer is `[slots, n_head, capacity, head_dim]`. ONNX Runtime appends to it in place, so it stays
where it is until `reserve` replaces it. What a slot holds, and how much of it, its decoder knows.
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
        return True

    def bind(self, binding: ort.IOBinding, first: int, last: int, *, in_place: bool = True) -> None:
        """Bind the slots from `first` to before `last` as past, and as present, in place.

        Where not `in_place`, ONNX Runtime allocates the present ones: the binding's outputs, keys
        of every layer before values, are for `put`.
        """
        shape = [last - first, self._config.n_head, self.capacity, self._config.head_dim]
        device, number = self._device
        for (layer, side), address in zip(self._names, self._addresses(), strict=True):
            at = address + first * self._slot_bytes
            binding.bind_input(past_name(layer, side), device, number, self.dtype, shape, at)
            name = present_name(layer, side)
            if in_place:
                binding.bind_output(name, device, number, self.dtype, shape, at)
            else:
                binding.bind_output(name)

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

    @property
    @abstractmethod
    def _device(self) -> tuple[str, int]:
        """ONNX Runtime's name for where the buffers lie, and its number."""

    @abstractmethod
    def _addresses(self) -> Sequence[int]:
        """Where each buffer begins, in the order of the names."""


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

    @property
    def _device(self) -> tuple[str, int]:
        return "cpu", 0

    def _addresses(self) -> list[int]:
        return [array.ctypes.data for array in self._arrays]


class DeviceBuffers(Buffers):
    """Buffers in a device's memory. What ONNX Runtime cannot do there is one transfer each way."""

    def __init__(
        self,
        config: ModelConfig,
        dtype: np.dtype[Any],
        slots: int = 1,
        *,
        device: str = "cpu",
        device_id: int = 0,
    ) -> None:
        super().__init__(config, dtype, slots)
        self._where = (device, device_id)
        self._values: list[ort.OrtValue] = []

    def copy_slot(self, source: int, target: int, start: int, end: int) -> None:
        for value in self._values:
            array = value.numpy()
            array[target, :, start:end] = array[source, :, start:end]
            value.update_inplace(array)

    def read(self, slot: int, end: int) -> tuple[Array, Array]:
        if not self._values:
            self._grow(0)
        filled = [value.numpy()[slot, :, :end] for value in self._values]
        n_layer = self._config.n_layer
        return np.stack(filled[:n_layer]), np.stack(filled[n_layer:])

    def put(self, first: int, start: int, new: Sequence[Array]) -> None:
        for value, part in zip(self._values, new, strict=True):
            slots, _, tokens, _ = part.shape
            array = value.numpy()
            array[first : first + slots, :, start : start + tokens] = part
            value.update_inplace(array)

    def _grow(self, filled: int) -> None:
        old, self._values = self._values, []
        for index in range(len(self._names)):
            array = np.zeros(self._shape(), self.dtype)
            if old:
                array[:, :, :filled] = old[index].numpy()
            self._values.append(self._on_device(array))

    def _on_device(self, array: NDArray[np.generic]) -> ort.OrtValue:
        device, number = self._where
        value = ort.OrtValue.ortvalue_from_shape_and_type(
            array.shape, array.dtype.type, device, number
        )
        value.update_inplace(array)
        return value

    @property
    def _device(self) -> tuple[str, int]:
        return self._where

    def _addresses(self) -> list[int]:
        return [value.data_ptr() for value in self._values]
