"""nanoGPT's `ckpt.pt` (https://github.com/karpathy/nanoGPT) in transformers' names and layout."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pocketgpt import CheckpointError

from .weights import check_tensors, read_pickle

FILE_NAME = "ckpt.pt"
_COMPILED = "_orig_mod."  # what torch.compile puts before every name
# nn.Linear there, Conv1D in transformers: the same numbers, transposed.
_TRANSPOSED = ("attn.c_attn.weight", "attn.c_proj.weight", "mlp.c_fc.weight", "mlp.c_proj.weight")
_SIZES = {"n_layer", "n_head", "n_embd", "block_size", "vocab_size"}


def read_nanogpt(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Read a nanoGPT checkpoint: the fields of a config.json, and tensors by transformers' names.

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
    tensors = check_tensors(state, path)
    tensors = {name.removeprefix(_COMPILED): tensor for name, tensor in tensors.items()}
    fields = {
        "model_type": "gpt2",
        "architectures": ["GPT2LMHeadModel"],
        "n_positions": sizes["block_size"],
        "activation_function": "gelu",  # nn.GELU(): the exact one
        "bos_token_id": None,
        "eos_token_id": None,
        **{name: sizes[name] for name in _SIZES - {"block_size"}},
    }
    return fields, _with_biases({n: _transposed(n, tensor) for n, tensor in tensors.items()})


def _transposed(name: str, tensor: Tensor) -> Tensor:
    return tensor.T.contiguous() if name.endswith(_TRANSPOSED) and tensor.ndim == 2 else tensor


def _with_biases(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Add the zeros that a model made with `bias=False` leaves out."""
    complete = dict(tensors)
    for name, tensor in tensors.items():
        module, _, kind = name.rpartition(".")
        is_head_or_table = module in ("lm_head", "transformer.wte", "transformer.wpe")
        if kind == "weight" and not is_head_or_table:
            complete.setdefault(f"{module}.bias", torch.zeros(tensor.shape[-1:]))
    return complete
