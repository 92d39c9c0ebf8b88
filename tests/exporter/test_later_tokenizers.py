"""Tokenizers as transformers 5 saves them, read by the installed transformers."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from transformers import PreTrainedTokenizerFast

import pocketgpt
from pocketgpt_export import export
from pocketgpt_export.source.checkpoint import load_checkpoint

TEXT = "the cat<|endoftext|> sat<|ask|> on<|answer|>"
ADDED = ["<|ask|>", "<|answer|>"]


def as_transformers_5(folder: Path, name: str, *, added: bool) -> None:
    """Rewrite a tokenizer's files as transformers 5 would have saved them."""
    content = json.loads((folder / "tokenizer.json").read_text("utf-8"))
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    for token_id, token in enumerate(ADDED if added else [], 320):
        content["added_tokens"].append({"id": token_id, "content": token, "special": True, **flags})
    (folder / "tokenizer.json").write_text(json.dumps(content), "utf-8")
    settings: dict[str, Any] = {
        "backend": "tokenizers",
        "bos_token": "<|endoftext|>",
        "eos_token": "<|endoftext|>",
        "is_local": True,
        "model_max_length": 64,
        "tokenizer_class": name,
    }
    if added:
        settings["extra_special_tokens"] = ADDED
    (folder / "tokenizer_config.json").write_text(json.dumps(settings), "utf-8")
    (folder / "special_tokens_map.json").unlink(missing_ok=True)


@pytest.mark.parametrize("name", ["TokenizersBackend", "GPT2Tokenizer", "OfSomebodyElse"])
@pytest.mark.parametrize("added", [False, True])
def test_saved_by_transformers_5(
    name: str,
    added: bool,
    make_checkpoint: Callable[..., Path],
    tiny_tokenizer: PreTrainedTokenizerFast,
) -> None:
    folder = make_checkpoint(vocab_size=328)
    as_transformers_5(folder, name, added=added)
    reference = PreTrainedTokenizerFast(tokenizer_file=str(folder / "tokenizer.json"))
    loaded = load_checkpoint(folder).tokenizer
    assert loaded(TEXT)["input_ids"] == reference(TEXT)["input_ids"]
    assert loaded.eos_token == "<|endoftext|>"
    assert set(loaded.all_special_tokens) == {"<|endoftext|>", *(ADDED if added else [])}


def test_its_special_tokens_survive(make_checkpoint: Callable[..., Path], tmp_path: Path) -> None:
    folder = make_checkpoint(vocab_size=328, n_layer=1)
    as_transformers_5(folder, "TokenizersBackend", added=True)
    config = json.loads((folder / "config.json").read_text("utf-8"))
    later = {**config, "dtype": "float32", "rope_parameters": None, "transformers_version": "5.5.0"}
    (folder / "config.json").write_text(json.dumps(later), "utf-8")
    export(folder, tmp_path / "model")
    written = json.loads((tmp_path / "model" / "tokenizer_config.json").read_text("utf-8"))
    assert written["eos_token"] == "<|endoftext|>"
    kept = written.get("additional_special_tokens") or written["extra_special_tokens"]
    assert kept == ADDED
    assert str(tmp_path) not in json.dumps(written)
    found = pocketgpt.load(tmp_path / "model").tokenizer
    reference = PreTrainedTokenizerFast(tokenizer_file=str(folder / "tokenizer.json"))
    assert found.encode(TEXT) == reference(TEXT)["input_ids"]
