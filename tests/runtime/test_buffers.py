"""The cache's memory: growth, copies, reading and writing, on the host and by OrtValues."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from pocketgpt.engine.buffers import BLOCK, Buffers, DeviceBuffers, HostBuffers
from pocketgpt.engine.mover import Mover
from pocketgpt.engine.placement import HOST
from pocketgpt.folder.config import ModelConfig

CONFIG = ModelConfig(n_layer=3, n_head=2, n_embd=16, n_positions=1000, vocab_size=10)
FLOAT32 = np.dtype(np.float32)

Make = Callable[[ModelConfig, np.dtype[Any], int], Buffers]


def on_device(config: ModelConfig, dtype: np.dtype[Any], slots: int) -> DeviceBuffers:
    """Buffers moved by a graph, as on a device."""
    return DeviceBuffers(config, dtype, slots, Mover(dtype, HOST))


def fixed_on_device(config: ModelConfig, dtype: np.dtype[Any], slots: int) -> DeviceBuffers:
    """The same, written in place."""
    return DeviceBuffers(config, dtype, slots, Mover(dtype, HOST), fixed=True)


KINDS: list[Make] = [HostBuffers, on_device, fixed_on_device]


def normal(tokens: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Keys and values of so many tokens."""
    random = np.random.default_rng(seed)
    keys, values = random.normal(size=(2, 3, 2, tokens, 8)).astype(np.float32)
    return keys, values


@pytest.mark.parametrize("kind", KINDS)
def test_starts_without_room(kind: Make) -> None:
    cache = kind(CONFIG, FLOAT32, 1)
    assert (cache.capacity, cache.bytes) == (0, 0)
    assert [array.shape for array in cache.read(0, 0)] == [(3, 2, 0, 8)] * 2


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", [np.float32, np.float16])
@pytest.mark.parametrize(("tokens", "capacity"), [(1, 64), (64, 64), (65, 128), (999, 1000)])
def test_first_reserve_takes_whole_blocks(
    kind: Make, dtype: type[np.generic], tokens: int, capacity: int
) -> None:
    cache = kind(CONFIG, np.dtype(dtype), 2)
    assert cache.reserve(tokens)
    assert cache.capacity == capacity
    assert cache.bytes == 6 * 2 * 2 * capacity * 8 * np.dtype(dtype).itemsize
    for array in cache.read(1, capacity):
        assert array.shape == (3, 2, capacity, 8)
        assert array.dtype == dtype
        assert not array.any()


@pytest.mark.parametrize("kind", KINDS)
def test_doubles_up_to_the_context(kind: Make) -> None:
    cache = kind(CONFIG, FLOAT32, 1)
    capacities = [cache.capacity for tokens in range(1, 1001) if cache.reserve(tokens)]
    assert capacities == [64, 128, 256, 512, 1000]


@pytest.mark.parametrize("kind", KINDS)
def test_stays_where_it_is_while_there_is_room(kind: Make) -> None:
    cache = kind(CONFIG, FLOAT32, 1)
    cache.reserve(1)
    before = list(cache.addresses())
    assert not cache.reserve(BLOCK)
    assert list(cache.addresses()) == before
    assert cache.reserve(BLOCK + 1)


@pytest.mark.parametrize("kind", KINDS)
def test_growth_keeps_what_is_filled(kind: Make) -> None:
    cache = kind(CONFIG, FLOAT32, 3)
    cache.reserve(BLOCK)
    filled = [normal(50, seed) for seed in range(3)]
    for slot, (keys, values) in enumerate(filled):
        cache.write(slot, 0, keys, values)
    cache.reserve(200)
    assert cache.capacity == 256
    for slot, expected in enumerate(filled):
        for array, content in zip(cache.read(slot, 256), expected, strict=True):
            np.testing.assert_array_equal(array[:, :, :50], content)
            assert not array[:, :, 50:].any()


@pytest.mark.parametrize("kind", KINDS)
def test_a_slot_is_copied_between_two_tokens_and_no_further(kind: Make) -> None:
    cache = kind(CONFIG, FLOAT32, 3)
    cache.reserve(BLOCK)
    for slot in range(3):
        cache.write(slot, 0, *normal(40, slot))
    cache.copy_slot(2, 0, 10, 30)
    for array, source, target in zip(cache.read(0, 40), normal(40, 2), normal(40, 0), strict=True):
        np.testing.assert_array_equal(array[:, :, 10:30], source[:, :, 10:30])
        np.testing.assert_array_equal(array[:, :, :10], target[:, :, :10])
        np.testing.assert_array_equal(array[:, :, 30:], target[:, :, 30:])
    for array, content in zip(cache.read(1, 40), normal(40, 1), strict=True):
        np.testing.assert_array_equal(array, content)


@pytest.mark.parametrize("kind", KINDS)
def test_some_tokens_of_some_slots_are_put(kind: Make) -> None:
    cache = kind(CONFIG, FLOAT32, 4)
    cache.reserve(BLOCK)
    before = [normal(20, slot) for slot in range(4)]
    for slot, (keys, values) in enumerate(before):
        cache.write(slot, 0, keys, values)
    parts = [normal(5, 10 + slot) for slot in range(2)]
    keys, values = (np.stack([part[side] for part in parts], axis=1) for side in range(2))
    cache.put(1, 7, [*keys, *values])
    for slot in range(4):
        for side, array in enumerate(cache.read(slot, 20)):
            expected = before[slot][side].copy()
            if slot in (1, 2):
                expected[:, :, 7:12] = parts[slot - 1][side]
            np.testing.assert_array_equal(array, expected)


def test_only_growth_moves_fixed_buffers() -> None:
    cache = fixed_on_device(CONFIG, FLOAT32, 2)
    cache.reserve(10)
    before = cache.addresses()
    cache.write(1, 0, *normal(9))
    cache.copy_slot(1, 0, 0, 9)
    assert cache.addresses() == before
    cache.reserve(BLOCK + 1)
    assert not set(before) & set(cache.addresses())
