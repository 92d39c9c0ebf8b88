"""GPT-2's own size: 124 million parameters, generated weights."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from transformers import GPT2LMHeadModel, GPT2TokenizerFast

from pocketgpt_export import export
from pocketgpt_export.proof import TOLERANCE


@pytest.mark.slow
def test_gpt2_exports_without_a_second_embedding(
    make_gpt2: Callable[..., GPT2LMHeadModel], tiny_checkpoint: Path, tmp_path: Path
) -> None:
    shape = {"vocab_size": 50257, "n_positions": 1024, "n_embd": 768, "n_layer": 12, "n_head": 12}
    make_gpt2(**shape, initializer_range=0.02).save_pretrained(tmp_path / "gpt2")
    GPT2TokenizerFast.from_pretrained(tiny_checkpoint).save_pretrained(tmp_path / "gpt2")
    manifest = export(tmp_path / "gpt2", tmp_path / "folder")
    assert max(manifest.proof.values()) <= TOLERANCE
    size = sum(file.stat().st_size for file in (tmp_path / "folder").rglob("*") if file.is_file())
    assert size < 505_000_000
