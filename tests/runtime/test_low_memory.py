"""`low_memory=True`: the same model, in small chunks."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest

import pocketgpt
from pocketgpt.engine.decoder import SMALL_CHUNK

TEXT = "The lighthouse keeper counted the ships. "


def test_fp32_says_the_same(tiny_folder: Path) -> None:
    plain, low = (pocketgpt.load(tiny_folder, "fp32", low_memory=low) for low in (False, True))
    prompts = [TEXT, TEXT * 2, "A small boat"]
    expected = [result.token_ids for result in plain.generate(prompts, max_new_tokens=8)]
    assert [result.token_ids for result in low.generate(prompts, max_new_tokens=8)] == expected
    scores = [model.score(TEXT * 3).log_probs for model in (plain, low)]
    np.testing.assert_allclose(scores[0], scores[1], atol=1e-4)


def test_passes_are_small(tiny_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pocketgpt.engine.graph.SMALL_CHUNK", 8)
    model = pocketgpt.load(tiny_folder, "fp32", low_memory=True)
    seen: list[int] = []
    for name in ("feed", "append", "fill", "score"):
        original = getattr(pocketgpt.Decoder, name)

        def noted(decoder: pocketgpt.Decoder, ids: list[int], *args: int, real=original) -> object:  # type: ignore[no-untyped-def]
            nested = bool(ids) and not isinstance(ids[0], int)
            seen.append(sum(map(len, ids)) if nested else len(ids))  # type: ignore[arg-type]
            return real(decoder, ids, *args)

        monkeypatch.setattr(pocketgpt.Decoder, name, noted)
    model.generate([TEXT] * 3, max_new_tokens=2)
    model.score(TEXT)
    assert 8 in seen
    assert max(seen) <= 32


def test_a_copy_is_so_too(tiny_folder: Path) -> None:
    model = pocketgpt.load(tiny_folder, "fp32", low_memory=True)
    assert pickle.loads(pickle.dumps(model)).new_decoder().chunk == SMALL_CHUNK
    assert pocketgpt.load(tiny_folder, "fp32").new_decoder().chunk > SMALL_CHUNK
