"""Logits against PyTorch's, however the ids are fed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

import pocketgpt
from pocketgpt.engine import buffers, decoder

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
    assert feeding.lengths.tolist() == [90]


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
        for found, side in zip(feeding.read(), (expected.keys, expected.values), strict=True):
            assert found.shape == (2, 2, 70, 64)
            np.testing.assert_allclose(found[layer], side[0].numpy(), rtol=0, atol=TOLERANCE)


def test_steps_write_into_the_same_buffers(tiny: pocketgpt.Model) -> None:
    feeding = tiny.new_decoder()
    feeding.step(5)
    addresses = feeding._cache.addresses()
    for position in range(1, buffers.BLOCK):
        keys, values = feeding._cache.read(0, buffers.BLOCK)
        assert not keys[:, :, position:].any()
        assert not values[:, :, position:].any()
        feeding.step(7)
        keys, values = feeding.read()
        assert keys[:, :, position].all()
        assert values[:, :, position].all()
    assert feeding._cache.addresses() == addresses


def test_cache_grows_with_the_text(tiny: pocketgpt.Model) -> None:
    feeding = tiny.new_decoder()
    capacities = []
    for token_id in random_ids(96):
        feeding.step(token_id)
        capacities.append(feeding.cache_capacity)
    assert capacities == [64] * 64 + [96] * 32
