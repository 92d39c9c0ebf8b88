"""Reading a GPT-2 checkpoint of any kind, refusing by name what cannot be exported."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers import PreTrainedTokenizerFast

from pocketgpt import CheckpointError
from pocketgpt.folder.config import CONFIG, GENERATION_CONFIG
from pocketgpt.folder.json_file import read_json_object
from pocketgpt.folder.manifest import TEXTS

from .adapter import CONFIG as ADAPTER
from .adapter import Adapter, adapt, check_adapter, is_adapter, merge_adapter
from .adapter_head import with_adapters_head
from .assemble import assemble
from .classifier import GPT2
from .config import make_config
from .formats import check_no_pointer, what_file_is, what_is_there
from .heads import without_other_heads
from .locate import Source, locate, locate_tokenizer
from .names import plain_names
from .nanogpt import FILE_NAME, read_nanogpt, refuse_characters
from .pruned import with_pruned_heads
from .tokenizer import has_tokenizer, load_tokenizer, own_template
from .weights import read_weights

NANOGPT_SUFFIXES = (".pt", ".pth", ".ckpt")
GPT2_TOKENIZER = "openai-community/gpt2"
COMPANIONS = (GENERATION_CONFIG, *TEXTS)


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint in memory: the float32 reference model in evaluation mode and its tokenizer.

    `companions` are the folders whose texts and generation_config.json belong to it, the first that
    has one first; `adapter` is the LoRA that is at work in `model`, as peft runs it, if there is
    one; `remarks` are lines about what was left out or taken from elsewhere.
    """

    source: Source
    base: Source | None
    companions: tuple[Path, ...]
    model: GPT2
    tokenizer: PreTrainedTokenizerFast
    remarks: tuple[str, ...] = ()
    adapter: Adapter | None = None

    def merged(self) -> GPT2:
        """Return the model without an adapter's layers, what they add in its weights.

        `model` is used up where there is an adapter.

        Raises:
            CheckpointError: what they add is not finite.
        """
        if self.adapter is None:
            return self.model
        return merge_adapter(self.adapter, self.source.name)


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
            GPT-2's for a nanoGPT checkpoint with none beside it.
        base: what a LoRA adapter is merged into.
        local_only: never use the network.

    Raises:
        CheckpointError: it is not there, not GPT-2, incomplete or damaged.
        MissingExtraError: it is an adapter, and peft is not installed.
    """
    source = locate(checkpoint, revision, local_only=local_only)
    if source.path.is_dir() and is_adapter(source.path, base):
        return _load_adapted(source, base, tokenizer, local_only)
    if base is not None:
        raise CheckpointError(f"{checkpoint} is no adapter, so it takes no base; leave out --base")
    loaded = _load_whole(source, tokenizer, local_only)
    _check_vocabulary(
        loaded.tokenizer, loaded.model.config.vocab_size, str(tokenizer or checkpoint)
    )
    return loaded


def _load_adapted(
    source: Source,
    base: str | os.PathLike[str] | None,
    tokenizer: str | os.PathLike[str] | None,
    local_only: bool,
) -> Checkpoint:
    """Read an adapter on its base; what the adapter's folder has goes before the base's."""
    check_adapter(source.path, base)
    assert base is not None
    own = source.path if has_tokenizer(source.path) else None
    whole = _load_whole(locate(base, local_only=local_only), tokenizer or own, local_only)
    adapter = adapt(with_adapters_head(whole.model, source.path), source.path)
    model = adapter.model
    _check_vocabulary(whole.tokenizer, model.config.vocab_size, str(tokenizer or own or base))
    if own is None and (template := own_template(source.path)) is not None:
        whole.tokenizer.chat_template = template
    taken = [] if tokenizer or own else ["tokenizer.json"]
    base_only = (name for name in COMPANIONS if not (source.path / name).is_file())
    taken += [name for name in base_only if any((f / name).is_file() for f in whole.companions)]
    remark = f"taken from the base, where the adapter's folder has none: {', '.join(taken)}"
    return Checkpoint(
        source,
        whole.source,
        (source.path, *whole.companions),
        model,
        whole.tokenizer,
        (*whole.remarks, *([remark] if taken else [])),
        adapter,
    )


def _load_whole(
    source: Source, tokenizer: str | os.PathLike[str] | None, local_only: bool
) -> Checkpoint:
    """Read a checkpoint that stands alone; whether the tokenizer fits is still to be checked."""
    path = source.path
    if path.is_file() and path.suffix not in NANOGPT_SUFFIXES:
        raise CheckpointError(
            f"{source.name} is not a checkpoint folder, nor a {FILE_NAME} of nanoGPT"
            f"{what_file_is(path)}"
        )
    nanogpt = path / FILE_NAME if path.is_dir() else path
    if nanogpt.is_file() and not (path / CONFIG).is_file():
        return _load_nanogpt(source, nanogpt, tokenizer, local_only)
    fields = _read_config(path)
    config = make_config(fields, str(path))
    folder = path if tokenizer is None else locate_tokenizer(tokenizer, local_only=local_only)
    loaded = load_tokenizer(folder)
    tensors, remarks = without_other_heads(plain_names(read_weights(path), str(path)), str(path))
    tensors = with_pruned_heads(tensors, fields.get("pruned_heads"), config, str(path))
    model = assemble(config, tensors, str(path))
    if (path / ADAPTER).is_file():
        remarks += (f"{ADAPTER} beside the weights is passed over: --base merges the adapter",)
    return Checkpoint(source, None, (path,), model, loaded, remarks)


def _load_nanogpt(
    source: Source, file: Path, tokenizer: str | os.PathLike[str] | None, local_only: bool
) -> Checkpoint:
    read = read_nanogpt(file)
    if tokenizer is None and has_tokenizer(file.parent):
        tokenizer = file.parent
    rows = read.fields["vocab_size"]
    if read.of_characters and tokenizer is None:
        refuse_characters(file, rows)
    try:
        folder = locate_tokenizer(tokenizer or GPT2_TOKENIZER, local_only=local_only)
    except CheckpointError as error:
        raise CheckpointError(
            f"{file} holds no tokenizer: give the one it was trained with by --tokenizer FOLDER "
            f"(tokenizer=...); {error}"
        ) from error
    loaded = load_tokenizer(folder)
    if read.of_characters and len(loaded) > rows:
        refuse_characters(file, rows)
    ends = {"bos_token_id": loaded.bos_token_id, "eos_token_id": loaded.eos_token_id}
    config = make_config({**read.fields, **ends}, str(file))
    return Checkpoint(source, None, (), assemble(config, read.tensors, str(file)), loaded)


def _read_config(folder: Path) -> dict[str, Any]:
    path = folder / CONFIG
    if not path.exists():
        raise CheckpointError(
            f"{folder} has no {CONFIG}, so it is not a checkpoint{what_is_there(folder)}"
        )
    check_no_pointer(path)
    return read_json_object(path, CheckpointError, remedy="copy the checkpoint again")


def _check_vocabulary(tokenizer: PreTrainedTokenizerFast, vocab_size: int, where: str) -> None:
    token, last = max(tokenizer.get_vocab().items(), key=lambda item: item[1])
    if last >= vocab_size:
        raise CheckpointError(
            f"{where}'s tokenizer gives {token!a} the id {last}, and the embedding has "
            f"{vocab_size} rows: resize the embedding (model.resize_token_embeddings) or take the "
            "token out"
        )
