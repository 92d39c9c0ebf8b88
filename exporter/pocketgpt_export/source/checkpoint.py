"""Reading a GPT-2 checkpoint of any kind, refusing by name what cannot be exported."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers import PreTrainedTokenizerFast

from pocketgpt import CheckpointError
from pocketgpt.folder.config import CONFIG
from pocketgpt.folder.json_file import read_json_object

from .adapter import check_adapter, is_adapter, merge_adapter
from .adapter_head import with_adapters_head
from .assemble import assemble, make_config
from .classifier import GPT2
from .locate import Source, locate, locate_tokenizer
from .nanogpt import FILE_NAME, read_nanogpt
from .tokenizer import load_tokenizer
from .weights import read_weights

NANOGPT_SUFFIXES = (".pt", ".pth", ".ckpt")
GPT2_TOKENIZER = "openai-community/gpt2"


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint in memory: the float32 reference model in evaluation mode and its tokenizer.

    `companions` is the folder whose texts and generation_config.json belong to it, if it has one.
    """

    source: Source
    base: Source | None
    companions: Path | None
    model: GPT2
    tokenizer: PreTrainedTokenizerFast


def load_checkpoint(
    checkpoint: str | os.PathLike[str],
    revision: str | None = None,
    *,
    tokenizer: str | os.PathLike[str] | None = None,
    base: str | os.PathLike[str] | None = None,
    local_only: bool = False,
) -> Checkpoint:
    """Read a checkpoint.

    Args:
        checkpoint: a folder in Hugging Face format, a hub id such as `openai-community/gpt2`, a
            nanoGPT `ckpt.pt` or the folder it lies in, or a PEFT LoRA adapter's folder or hub id.
        revision: a hub branch, tag or commit.
        tokenizer: a folder or hub id to take the tokenizer from; None for the checkpoint's own, and
            GPT-2's for a nanoGPT checkpoint.
        base: what a LoRA adapter is merged into.
        local_only: never use the network.

    Raises:
        CheckpointError: it is not there, not GPT-2, incomplete or damaged.
        MissingExtraError: it is an adapter, and peft is not installed.
    """
    source = locate(checkpoint, revision, local_only=local_only)
    if source.path.is_dir() and is_adapter(source.path):
        check_adapter(source.path, base)
        assert base is not None
        whole = load_checkpoint(base, tokenizer=tokenizer, local_only=local_only)
        model = merge_adapter(with_adapters_head(whole.model, source.path), source.path)
        return Checkpoint(source, whole.source, whole.companions, model, whole.tokenizer)
    if base is not None:
        raise CheckpointError(f"{checkpoint} is no adapter, so it takes no base; leave out --base")
    if source.path.is_file() and source.path.suffix not in NANOGPT_SUFFIXES:
        raise CheckpointError(
            f"{checkpoint} is not a checkpoint folder, nor a {FILE_NAME} of nanoGPT"
        )
    nanogpt = source.path / FILE_NAME if source.path.is_dir() else source.path
    if nanogpt.is_file() and not (source.path / "config.json").is_file():
        return _load_nanogpt(source, nanogpt, tokenizer or GPT2_TOKENIZER, local_only)
    config = make_config(_read_config(source.path), str(source.path))
    folder = (
        source.path if tokenizer is None else locate_tokenizer(tokenizer, local_only=local_only)
    )
    loaded = load_tokenizer(folder)
    _check_vocabulary(loaded, config.vocab_size, folder)
    model = assemble(config, read_weights(source.path), str(source.path))
    return Checkpoint(source, None, source.path, model, loaded)


def _load_nanogpt(
    source: Source, file: Path, tokenizer: str | os.PathLike[str], local_only: bool
) -> Checkpoint:
    fields, tensors = read_nanogpt(file)
    try:
        folder = locate_tokenizer(tokenizer, local_only=local_only)
    except CheckpointError as error:
        raise CheckpointError(
            f"{file} holds no tokenizer: give the one it was trained with by --tokenizer FOLDER "
            f"(tokenizer=...); {error}"
        ) from error
    loaded = load_tokenizer(folder)
    config = make_config(
        {**fields, "bos_token_id": loaded.bos_token_id, "eos_token_id": loaded.eos_token_id},
        str(file),
    )
    _check_vocabulary(loaded, config.vocab_size, folder)
    return Checkpoint(source, None, None, assemble(config, tensors, str(file)), loaded)


def _read_config(folder: Path) -> dict[str, Any]:
    path = folder / CONFIG
    if not path.exists():
        raise CheckpointError(f"{folder} has no {CONFIG}, so it is not a checkpoint")
    return read_json_object(path, CheckpointError, remedy="copy the checkpoint again")


def _check_vocabulary(tokenizer: PreTrainedTokenizerFast, vocab_size: int, folder: Path) -> None:
    token, last = max(tokenizer.get_vocab().items(), key=lambda item: item[1])
    if last >= vocab_size:
        raise CheckpointError(
            f"{folder}'s tokenizer gives {token!a} the id {last}, and the embedding has "
            f"{vocab_size} rows: resize the embedding (model.resize_token_embeddings) or take the "
            "token out"
        )
