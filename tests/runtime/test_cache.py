"""The key-value cache's growth."""

from __future__ import annotations

import numpy as np
import pytest

from pocketgpt.engine.cache import BLOCK, KeyValueCache
from pocketgpt.folder.config import ModelConfig

CONFIG = ModelConfig(n_layer=3, n_head=2, n_embd=16, n_positions=1000, vocab_size=10)


def test_starts_without_room() -> None:
    cache = KeyValueCache(CONFIG, np.float32)
    assert (cache.length, cache.capacity) == (0, 0)
    assert [keys.shape for keys in cache.keys] == [(1, 2, 0, 8)] * 3
    assert [values.shape for values in cache.values] == [(1, 2, 0, 8)] * 3


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
@pytest.mark.parametrize(("tokens", "capacity"), [(1, 64), (64, 64), (65, 128), (999, 1000)])
def test_first_reserve_takes_whole_blocks(
    dtype: type[np.generic], tokens: int, capacity: int
) -> None:
    cache = KeyValueCache(CONFIG, dtype)
    assert cache.reserve(tokens)
    assert cache.capacity == capacity
    for buffer in cache.keys + cache.values:
        assert buffer.shape == (1, 2, capacity, 8)
        assert buffer.dtype == dtype
        assert not buffer.any()


def test_doubles_up_to_the_context() -> None:
    cache = KeyValueCache(CONFIG, np.float32)
    capacities = [cache.capacity for tokens in range(1, 1001) if cache.reserve(tokens)]
    assert capacities == [64, 128, 256, 512, 1000]


def test_stays_where_it_is_while_there_is_room() -> None:
    cache = KeyValueCache(CONFIG, np.float32)
    cache.reserve(1)
    before = [buffer.ctypes.data for buffer in cache.keys + cache.values]
    assert not cache.reserve(BLOCK)
    assert [buffer.ctypes.data for buffer in cache.keys + cache.values] == before
    assert cache.reserve(BLOCK + 1)


def test_growth_keeps_what_is_filled() -> None:
    cache = KeyValueCache(CONFIG, np.float32)
    cache.reserve(BLOCK)
    random = np.random.default_rng(0)
    filled = [random.normal(size=(1, 2, 50, 8)).astype(np.float32) for _ in range(6)]
    for buffer, content in zip(cache.keys + cache.values, filled, strict=True):
        buffer[:, :, :50] = content
    cache.length = 50
    cache.reserve(200)
    assert (cache.length, cache.capacity) == (50, 256)
    for buffer, content in zip(cache.keys + cache.values, filled, strict=True):
        np.testing.assert_array_equal(buffer[:, :, :50], content)
        assert not buffer[:, :, 50:].any()
