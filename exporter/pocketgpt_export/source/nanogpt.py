"""nanoGPT's `ckpt.pt` (https://github.com/karpathy/nanoGPT) in GPT-2's names and layout."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pocketgpt import CheckpointError

from .names import HEAD, TABLE, plain_names
from .weights import check_tensors, read_pickle

FILE_NAME = "ckpt.pt"
_CHARACTERS = "meta.pkl"  # where data/*_char/prepare.py leaves the characters, as a pickle
_BYTES = 256  # fewer tokens cannot be byte-level BPE, which has one for each byte
# nn.Linear there, Conv1D in transformers: the same numbers, transposed.
_TRANSPOSED = ("attn.c_attn.weight", "attn.c_proj.weight", "mlp.c_fc.weight", "mlp.c_proj.weight")
_SIZES = {"n_layer", "n_head", "n_embd", "block_size", "vocab_size"}


@dataclass(frozen=True)
class NanoGPT:
    """A nanoGPT checkpoint: the fields of a config.json, and tensors by GPT-2's plain names.

    `of_characters` says that its tokens are characters, as far as that can be told.
    """

    fields: dict[str, Any]
    tensors: dict[str, Tensor]
    of_characters: bool


def read_nanogpt(path: Path) -> NanoGPT:
    """Read a nanoGPT checkpoint.

    A vocabulary padded to a round number (nanoGPT's default is 50304) is kept: its logits are the
    checkpoint's.

    Raises:
        CheckpointError: the file is damaged or not nanoGPT's.
    """
    content = read_pickle(path)
    sizes, state = content.get("model_args"), content.get("model")
    if not isinstance(sizes, dict) or not isinstance(state, dict) or not sizes.keys() >= _SIZES:
        raise CheckpointError(
            f"{path} is not a nanoGPT checkpoint: it should hold 'model' and 'model_args' with "
            f"{', '.join(sorted(_SIZES))}"
        )
    sizes = {n: v.item() if isinstance(v, np.generic) else v for n, v in sizes.items()}
    tensors = plain_names(check_tensors(state, path), str(path))
    fields = {
        "model_type": "gpt2",
        "architectures": ["GPT2LMHeadModel"],
        "n_positions": sizes["block_size"],
        "activation_function": "gelu",  # nn.GELU(): the exact one
        "bos_token_id": None,
        "eos_token_id": None,
        "tie_word_embeddings": _ties(tensors),
        **{name: sizes[name] for name in _SIZES - {"block_size"}},
    }
    whole = _with_biases({name: _transposed(name, tensor) for name, tensor in tensors.items()})
    return NanoGPT(fields, whole, _is_of_characters(path, content, sizes["vocab_size"]))


def refuse_characters(path: Path, vocab_size: object) -> None:
    """Refuse a checkpoint whose tokens are characters.

    Raises:
        CheckpointError: always.
    """
    raise CheckpointError(
        f"{path} is a character-level nanoGPT, its vocabulary {vocab_size} characters: what they "
        f"are is in a pickle ({_CHARACTERS}), which PocketGPT does not open, and it runs "
        "byte-level BPE; train it on GPT-2's tokens (nanoGPT's data/shakespeare/prepare.py does)"
    )


def _ties(tensors: Mapping[str, Tensor]) -> bool:
    """Whether the head is the embedding, as nanoGPT has it and not every fork."""
    head, table = tensors.get(HEAD), tensors.get(TABLE)
    return head is None or table is None or torch.equal(head, table)


def _is_of_characters(path: Path, content: Mapping[str, Any], vocab_size: object) -> bool:
    settings = content.get("config")
    dataset = settings.get("dataset") if isinstance(settings, Mapping) else None
    few = isinstance(vocab_size, int) and vocab_size < _BYTES
    return few or (path.parent / _CHARACTERS).exists() or str(dataset).endswith("_char")


def _transposed(name: str, tensor: Tensor) -> Tensor:
    return tensor.T.contiguous() if name.endswith(_TRANSPOSED) and tensor.ndim == 2 else tensor


def _with_biases(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Add the zeros that a model made with `bias=False` leaves out."""
    complete = dict(tensors)
    for name, tensor in tensors.items():
        module, _, kind = name.rpartition(".")
        is_head_or_table = module in ("lm_head", "wte", "wpe")
        if kind == "weight" and not is_head_or_table:
            complete.setdefault(f"{module}.bias", torch.zeros(tensor.shape[-1:]))
    return complete
