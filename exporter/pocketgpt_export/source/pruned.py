"""Heads that were pruned (`pruned_heads` in config.json), put back as heads that say nothing.

transformers 4 cuts a pruned head's columns out of `c_attn` and its rows out of `attn.c_proj`. A
head whose rows of `c_proj` are zeros adds zeros: the model is the same, and every layer has as many
heads as config.json says.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from transformers import GPT2Config

from pocketgpt import CheckpointError

# What has a part for each head, and along which dimension: three parts where q, k and v are packed.
_PARTS = {
    "c_attn.weight": (1, 3),
    "c_attn.bias": (0, 3),
    "c_proj.weight": (0, 1),
}


def with_pruned_heads(
    tensors: Mapping[str, Tensor], pruned: object, config: GPT2Config, where: str
) -> dict[str, Tensor]:
    """Return the tensors with every pruned head there again.

    Args:
        tensors: by GPT-2's plain names.
        pruned: config.json's `pruned_heads`: lists of heads by layer; empty or None for none.
        config: the shape before the heads were cut out.
        where: what to call the checkpoint in errors.

    Raises:
        CheckpointError: the heads are none of the model's, or its tensors still have some of them.
    """
    whole = dict(tensors)
    for layer, heads in _read(pruned, config, where).items():
        kept = [head for head in range(config.n_head) if head not in heads]
        for part, (dim, packed) in _PARTS.items():
            name = f"h.{layer}.attn.{part}"
            if name in whole:
                whole[name] = _spread(whole[name], dim, packed, kept, config, f"{where}'s {name}")
    return whole


def _read(pruned: object, config: GPT2Config, where: str) -> dict[int, set[int]]:
    if not pruned:
        return {}
    try:
        assert isinstance(pruned, dict)
        found = {int(layer): {int(head) for head in heads} for layer, heads in pruned.items()}
        assert all(0 <= layer < config.n_layer for layer in found)
        assert all(0 <= head < config.n_head for heads in found.values() for head in heads)
    except (AssertionError, TypeError, ValueError):
        raise CheckpointError(
            f"{where}'s config.json gives pruned_heads that a model of {config.n_layer} layers of "
            f"{config.n_head} heads does not have: mend it, or export the checkpoint from before"
        ) from None
    return {layer: heads for layer, heads in found.items() if heads}


def _spread(
    tensor: Tensor, dim: int, packed: int, kept: list[int], config: GPT2Config, what: str
) -> Tensor:
    """Lay a tensor's heads out where they were, zeros between."""
    width: int = config.n_embd // config.n_head
    if tensor.ndim <= dim or tensor.shape[dim] != packed * len(kept) * width:
        raise CheckpointError(
            f"{what} has shape {[*tensor.shape]}, and pruned_heads leaves {len(kept)} heads of "
            f"{width}: take pruned_heads out of config.json if nothing was cut"
        )
    ends: Any = (tensor.shape[:dim], tensor.shape[dim + 1 :])
    heads = tensor.reshape(*ends[0], packed, len(kept), width, *ends[1])
    spread = torch.zeros(*ends[0], packed, config.n_head, width, *ends[1], dtype=tensor.dtype)
    spread.index_copy_(dim + 1, torch.tensor(kept, dtype=torch.int64), heads)
    return spread.reshape(*ends[0], packed * config.n_head * width, *ends[1])
