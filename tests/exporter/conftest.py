"""Small random checkpoints, made as transformers makes them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

from pocketgpt_export import export

from ..conftest import byte_level_bpe

VOCAB_SIZE = 320
CHECKS = {
    "one_shot",
    "cached",
    "chunked",
    "ragged_batch",
    "eos_prompt",
    "context_end",
    "tokenizer",
}
MakeCheckpoint = Callable[..., Path]


@pytest.fixture(scope="session")
def tiny_tokenizer() -> PreTrainedTokenizerFast:
    """A byte-level BPE with all 256 bytes, a few merges and one special token."""
    text = "the cat sat on the mat, and then the dog sat there on another mat"
    tokenizer = byte_level_bpe([text] * 4, VOCAB_SIZE)
    eos = "<|endoftext|>"
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token=eos, eos_token=eos)


def tiny_config(**fields: Any) -> GPT2Config:
    """Return a small configuration; `fields` replace its own."""
    small: dict[str, Any] = {
        "vocab_size": VOCAB_SIZE,
        "n_embd": 32,
        "n_layer": 2,
        "n_head": 4,
        "n_positions": 64,
        "bos_token_id": 0,
        "eos_token_id": 0,
    }
    return GPT2Config(**{**small, **fields})


def tiny_model(**fields: Any) -> GPT2LMHeadModel:
    """Return a model of random weights, biases and norms too."""
    torch.manual_seed(0)
    model = GPT2LMHeadModel(tiny_config(**fields))
    for parameter in model.parameters():
        parameter.data.add_(torch.randn_like(parameter), alpha=0.1)
    return model


@pytest.fixture
def make_checkpoint(tmp_path: Path, tiny_tokenizer: PreTrainedTokenizerFast) -> MakeCheckpoint:
    """Return a function from configuration fields to a checkpoint's folder.

    `dtype` is what the weights are saved in, `max_shard_size` is save_pretrained's.
    """

    def make(
        name: str = "checkpoint",
        dtype: torch.dtype = torch.float32,
        max_shard_size: str = "1GB",
        **fields: Any,
    ) -> Path:
        folder = tmp_path / name
        model = tiny_model(**fields)
        for parameter in model.parameters():
            parameter.data = parameter.data.to(dtype)
        model.save_pretrained(folder, max_shard_size=max_shard_size)
        tiny_tokenizer.save_pretrained(folder)
        return folder

    return make


@pytest.fixture(scope="session")
def exported_once(
    tmp_path_factory: pytest.TempPathFactory, tiny_tokenizer: PreTrainedTokenizerFast
) -> tuple[Path, Path]:
    """A checkpoint and the folder made of it. Leave both as they are."""
    root = tmp_path_factory.mktemp("once")
    tiny_model(n_layer=1).save_pretrained(root / "checkpoint")
    tiny_tokenizer.save_pretrained(root / "checkpoint")
    (root / "checkpoint" / "evaluation.txt").write_text("the dog sat there. " * 50, "utf-8")
    export(root / "checkpoint", root / "exported")
    return root / "checkpoint", root / "exported"
