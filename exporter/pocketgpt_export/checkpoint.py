"""Reading a GPT-2 checkpoint in Hugging Face format, refusing by name what cannot be exported."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import snapshot_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError
from transformers import AutoTokenizer, GPT2LMHeadModel, PreTrainedTokenizerFast
from transformers.utils import logging as transformers_logging

from pocketgpt import CheckpointError

WEIGHTS = (
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
)
TEXTS = ("evaluation.txt", "calibration.txt")
_HUB_PATTERNS = ["*.json", "merges.txt", "*.safetensors", "*.bin", *TEXTS]


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint in memory: the float32 reference model in evaluation mode and its tokenizer."""

    source: str
    folder: Path
    model: GPT2LMHeadModel
    tokenizer: PreTrainedTokenizerFast


def load_checkpoint(source: str | os.PathLike[str], revision: str | None = None) -> Checkpoint:
    """Read a checkpoint from a local folder or from the Hugging Face hub.

    Args:
        source: a folder, or a hub id such as `openai-community/gpt2`.
        revision: a hub branch, tag or commit.

    Raises:
        CheckpointError: it is not there, not GPT-2, incomplete or damaged.
    """
    folder = _locate(source, revision)
    _check_config(folder)
    if not any((folder / name).is_file() for name in WEIGHTS):
        raise CheckpointError(f"{folder} has no weights: none of {', '.join(WEIGHTS)}")
    tokenizer = _load_tokenizer(folder)
    return Checkpoint(str(source), folder, _load_model(folder), tokenizer)


def _locate(source: str | os.PathLike[str], revision: str | None) -> Path:
    path = Path(source)
    if path.is_dir():
        return path
    name = str(source)
    if path.exists() or path.is_absolute() or name.startswith(".") or name.count("/") > 1:
        raise CheckpointError(f"{source} is not a checkpoint folder")
    try:
        return Path(snapshot_download(name, revision=revision, allow_patterns=_HUB_PATTERNS))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        reason = str(error).strip().splitlines()[0]
        raise CheckpointError(
            f"{source} is neither a folder nor a model that the hub or its cache gives: {reason}"
        ) from error


def _check_config(folder: Path) -> None:
    try:
        config: Any = json.loads((folder / "config.json").read_text("utf-8"))
        model_type = config.get("model_type")
    except FileNotFoundError:
        raise CheckpointError(f"{folder} has no config.json, so it is not a checkpoint") from None
    except (OSError, ValueError, AttributeError) as error:
        raise CheckpointError(f"{folder / 'config.json'} cannot be read: {error}") from None
    if model_type != "gpt2":
        raise CheckpointError(
            f"{folder} is a checkpoint of type {model_type!r}; PocketGPT exports 'gpt2' alone"
        )
    if config.get("add_cross_attention"):
        raise CheckpointError(f"{folder} has cross-attention (add_cross_attention), for encoders")


def _load_tokenizer(folder: Path) -> PreTrainedTokenizerFast:
    has_legacy = all((folder / name).is_file() for name in ("vocab.json", "merges.txt"))
    if not (folder / "tokenizer.json").is_file() and not has_legacy:
        raise CheckpointError(
            f"{folder} has no tokenizer: neither tokenizer.json nor vocab.json with merges.txt; "
            "copy them from the model it was trained from"
        )
    try:
        tokenizer: PreTrainedTokenizerFast
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    except Exception as error:  # transformers and tokenizers raise many kinds, even plain Exception
        raise CheckpointError(f"{folder}'s tokenizer cannot be read: {_line(error)}") from error
    return tokenizer


def _load_model(folder: Path) -> GPT2LMHeadModel:
    verbosity = transformers_logging.get_verbosity()
    transformers_logging.set_verbosity_error()  # what it would log is checked below
    try:
        model, report = GPT2LMHeadModel.from_pretrained(
            folder,
            local_files_only=True,
            dtype=torch.float32,
            attn_implementation="eager",
            output_loading_info=True,
        )
    except Exception as error:  # as many kinds here, safetensors' own among them
        raise CheckpointError(f"{folder}'s weights cannot be read: {_line(error)}") from error
    finally:
        transformers_logging.set_verbosity(verbosity)
    for kind in ("missing_keys", "mismatched_keys", "unexpected_keys"):
        if report[kind]:
            names = sorted(map(str, report[kind]))
            raise CheckpointError(
                f"{folder}'s weights do not fit its config.json: {len(names)} "
                f"{kind.replace('_', ' ')}, the first {names[0]}"
            )
    for name, parameter in model.named_parameters():
        if not torch.isfinite(parameter).all():
            raise CheckpointError(f"{folder}'s weights hold NaN or infinity, in {name}")
    evaluated: GPT2LMHeadModel = model.eval()
    return evaluated


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:300] or type(error).__name__
