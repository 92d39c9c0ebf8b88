"""The cache's memory: growth, copies, reading and writing, on the host and by OrtValues."""

from __future__ import annotations

import numpy as np
import pytest

import pocketgpt
from pocketgpt.engine.buffers import BLOCK, Buffers, DeviceBuffers, HostBuffers
from pocketgpt.folder.config import ModelConfig

CONFIG = ModelConfig(n_layer=3, n_head=2, n_embd=16, n_positions=1000, vocab_size=10)
KINDS: list[type[Buffers]] = [HostBuffers, DeviceBuffers]
FLOAT32 = np.dtype(np.float32)


def normal(tokens: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Keys and values of so many tokens."""
    random = np.random.default_rng(seed)
    keys, values = random.normal(size=(2, 3, 2, tokens, 8)).astype(np.float32)
    return keys, values


@pytest.mark.parametrize("kind", KINDS)
def test_starts_without_room(kind: type[Buffers]) -> None:
    cache = kind(CONFIG, FLOAT32, 1)
    assert (cache.capacity, cache.bytes) == (0, 0)
    assert [array.shape for array in cache.read(0, 0)] == [(3, 2, 0, 8)] * 2


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", [np.float32, np.float16])
@pytest.mark.parametrize(("tokens", "capacity"), [(1, 64), (64, 64), (65, 128), (999, 1000)])
def test_first_reserve_takes_whole_blocks(
    kind: type[Buffers], dtype: type[np.generic], tokens: int, capacity: int
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
def test_doubles_up_to_the_context(kind: type[Buffers]) -> None:
    cache = kind(CONFIG, FLOAT32, 1)
    capacities = [cache.capacity for tokens in range(1, 1001) if cache.reserve(tokens)]
    assert capacities == [64, 128, 256, 512, 1000]


@pytest.mark.parametrize("kind", KINDS)
def test_stays_where_it_is_while_there_is_room(kind: type[Buffers]) -> None:
    cache = kind(CONFIG, FLOAT32, 1)
    cache.reserve(1)
    before = list(cache._addresses())
    assert not cache.reserve(BLOCK)
    assert list(cache._addresses()) == before
    assert cache.reserve(BLOCK + 1)


@pytest.mark.parametrize("kind", KINDS)
def test_growth_keeps_what_is_filled(kind: type[Buffers]) -> None:
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
def test_a_slot_is_copied_between_two_tokens_and_no_further(kind: type[Buffers]) -> None:
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


def test_decoding_in_ortvalues_equals_decoding_in_arrays(tiny: pocketgpt.Model) -> None:
    """The same passes, growth, copies and steps of some of the slots, to the bit."""
    logits = []
    for kind in KINDS:
        decoder = tiny.graph.decoder(3, kind)
        rows = [decoder.fill([[5, 6, 7], [8], [9, 10]]).copy(), decoder.append([1, 2, 3], 1).copy()]
        rows += [decoder.step([3, 4, 5]).copy() for _ in range(70)]
        decoder.copy_slot(2, 0)
        decoder.rewind(20, 1)
        rows += [decoder.step([6, 7]).copy(), decoder.score([1, 2, 3], 2).copy()]
        keys, values = decoder.read(0)
        decoder.write(keys[:, :, :30], values[:, :, :30], 1)
        rows.append(decoder.step([1, 1, 1]).copy())
        logits.append(np.concatenate(rows))
    np.testing.assert_array_equal(logits[0], logits[1])
