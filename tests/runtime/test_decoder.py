"""Logits against PyTorch's, however the ids are fed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

import pocketgpt
from pocketgpt.engine import cache, decoder

if TYPE_CHECKING:
    from transformers import GPT2LMHeadModel

TOLERANCE = 1e-4


def random_ids(count: int, vocab_size: int = 400) -> list[int]:
    ids: list[int] = np.random.default_rng(count).integers(0, vocab_size, count).tolist()
    return ids


def torch_logits(model: GPT2LMHeadModel, ids: list[int]) -> NDArray[np.float32]:
    """PyTorch's logits `[len(ids), vocab_size]`."""
    with torch.inference_mode():
        logits: NDArray[np.float32] = model(torch.tensor([ids])).logits[0].numpy()
    return logits


@pytest.mark.parametrize("count", [1, 2, 17, 63, 64, 65, 96])
def test_one_pass_and_cached_steps_equal_pytorch(
    tiny: pocketgpt.Model, tiny_reference: GPT2LMHeadModel, count: int
) -> None:
    ids = random_ids(count)
    expected = torch_logits(tiny_reference, ids)
    at_once = tiny.new_decoder().score(ids)
    stepping = tiny.new_decoder()
    stepped = np.concatenate([stepping.step(i).copy() for i in ids])
    np.testing.assert_allclose(at_once, expected, rtol=0, atol=TOLERANCE)
    np.testing.assert_allclose(stepped, expected, rtol=0, atol=TOLERANCE)
    np.testing.assert_allclose(stepped, at_once, rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize("chunk", [1, 7, 32, 256])
def test_prefill_in_chunks_equals_pytorch(
    tiny: pocketgpt.Model,
    tiny_reference: GPT2LMHeadModel,
    monkeypatch: pytest.MonkeyPatch,
    chunk: int,
) -> None:
    monkeypatch.setattr(decoder, "PREFILL_CHUNK", chunk)
    ids = random_ids(90)
    expected = torch_logits(tiny_reference, ids)
    feeding = tiny.new_decoder()
    np.testing.assert_allclose(feeding.prefill(ids[:70])[0], expected[69], atol=TOLERANCE)
    for position in range(70, 80):
        found = feeding.step(ids[position])[0]
        np.testing.assert_allclose(found, expected[position], rtol=0, atol=TOLERANCE)
    np.testing.assert_allclose(feeding.score(ids[80:]), expected[80:], rtol=0, atol=TOLERANCE)
    assert feeding.cache.length == 90


def test_cache_holds_pytorchs_keys_and_values(
    tiny: pocketgpt.Model, tiny_reference: GPT2LMHeadModel
) -> None:
    ids = random_ids(70)
    feeding = tiny.new_decoder()
    feeding.prefill(ids[:60])
    for token_id in ids[60:]:
        feeding.step(token_id)
    with torch.inference_mode():
        past = tiny_reference(torch.tensor([ids]), use_cache=True).past_key_values
    for layer in range(2):
        expected = past.layers[layer]
        for found, side in zip(
            (feeding.cache.keys[layer], feeding.cache.values[layer]),
            (expected.keys, expected.values),
            strict=True,
        ):
            filled = found[:, :, :70].astype(np.float32)
            np.testing.assert_allclose(filled, side.numpy(), rtol=0, atol=TOLERANCE)
            assert not found[:, :, 70:].any()


def test_steps_write_into_the_same_buffers(tiny: pocketgpt.Model) -> None:
    feeding = tiny.new_decoder()
    feeding.step(5)
    buffers = [*feeding.cache.keys, *feeding.cache.values]
    addresses = [buffer.ctypes.data for buffer in buffers]
    for position in range(1, cache.BLOCK):
        assert not any(buffer[:, :, position:].any() for buffer in buffers)
        feeding.step(7)
        assert all(buffer[:, :, position].all() for buffer in buffers)
    grown = [*feeding.cache.keys, *feeding.cache.values]
    assert all(now is before for now, before in zip(grown, buffers, strict=True))
    assert [buffer.ctypes.data for buffer in grown] == addresses


def test_cache_grows_with_the_text(tiny: pocketgpt.Model) -> None:
    feeding = tiny.new_decoder()
    capacities = []
    for token_id in random_ids(96):
        feeding.step(token_id)
        capacities.append(feeding.cache.capacity)
    assert capacities == [64] * 64 + [96] * 32
