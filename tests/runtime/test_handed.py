"""A model folder says here what it said where it was made: another processor, another version."""

from __future__ import annotations

import numpy as np
import pytest

import pocketgpt
from pocketgpt.folder.manifest import read_manifest
from pocketgpt.folder.opening import KvCache

from ..conftest import HANDED
from .answers import PROMPTS, VARIANTS, caches, greedy, logits_along, read_answers

if HANDED is None:
    pytest.skip("compares with what tests/runtime/hand_over.py made", allow_module_level=True)

FOLDER = HANDED / "pocket-tales"
FP32_TOLERANCE = 1e-4  # of logits up to about 20, added up in another order


@pytest.mark.parametrize("kv_cache", caches())
@pytest.mark.parametrize("variant", VARIANTS)
def test_logits_are_within_the_tolerance(variant: str, kv_cache: KvCache) -> None:
    model = pocketgpt.load(FOLDER, variant, kv_cache=kv_cache)
    allowed = tolerance(variant, kv_cache)
    for prompt, answer in zip(PROMPTS, read_answers(FOLDER, variant, kv_cache), strict=True):
        logits = logits_along(model, prompt, answer.token_ids.tolist())
        assert np.abs(logits - answer.logits).max() <= allowed


@pytest.mark.parametrize("kv_cache", caches())
@pytest.mark.parametrize("variant", VARIANTS)
def test_greedy_tokens_differ_only_where_the_tolerance_covers_the_margin(
    variant: str, kv_cache: KvCache
) -> None:
    model = pocketgpt.load(FOLDER, variant, kv_cache=kv_cache)
    for prompt, answer in zip(PROMPTS, read_answers(FOLDER, variant, kv_cache), strict=True):
        here, there = greedy(model, prompt), answer.token_ids.tolist()
        if here == there:
            continue
        at = next(i for i, pair in enumerate(zip(here, there, strict=True)) if len(set(pair)) > 1)
        margin = answer.logits[at, there[at]] - answer.logits[at, here[at]]
        assert margin <= tolerance(variant, kv_cache), f"token {at}: {here} instead of {there}"


def test_the_default_cache_is_one_that_this_onnxruntime_has() -> None:
    """The folder has graphs with an 8-bit cache, which older ones cannot open."""
    assert read_manifest(FOLDER).variant("q4").int8_cache is not None
    assert pocketgpt.load(FOLDER, "q4").generate("Once", max_new_tokens=4).text


def tolerance(variant: str, kv_cache: KvCache) -> float:
    """What the manifest allows a variant's logits to differ by; fp32's own is 0."""
    record = read_manifest(FOLDER).variant(variant)
    cache = record.int8_cache if kv_cache == "int8" else None
    return max(FP32_TOLERANCE, (cache.tolerance if cache else record.tolerance) or 0.0)
