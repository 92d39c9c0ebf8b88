"""Tensors' names as transformers has them, whatever a model was wrapped in when it was saved.

torch.compile puts `_orig_mod.` before every name, DistributedDataParallel `module.`, Opacus
`_module.`, a trainer's class the name of its field; FSDP and activation checkpointing put theirs
within (`h.0._fsdp_wrapped_module.attn`). GPT-2's own names tell where a wrapper's end.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
from torch import Tensor

from pocketgpt import CheckpointError
from pocketgpt.engine.contract import SCORE_WEIGHT

HEAD, TABLE = "lm_head.weight", "wte.weight"
_BODY = re.compile(r"(?P<outer>(?:.*?\.)?)(?P<own>(?:(?:wte|wpe|ln_f)\.|h\.\d+\.).+)")
_OWN_HEAD = re.compile(r"(?P<outer>(?:.*\.)?)(?P<own>(?:lm_head|score)\.weight)")
# A wrapper's field within a name: private by its underscore, or PyTorch's plain `module`.
_WITHIN = re.compile(r"(?<![^.])(?:_\w+|module)\.")
_BODY_PREFIX = "transformer."


def plain_names(tensors: Mapping[str, Tensor], where: str) -> dict[str, Tensor]:
    """Return the tensors by GPT-2's own names, without `transformer.` and without wrappers'.

    Args:
        tensors: as they were saved.
        where: what to call the checkpoint in errors.

    Raises:
        CheckpointError: two different tensors have one name: there are two models in it.
    """
    unwrapped = {name: _WITHIN.sub("", name) for name in tensors}
    outers = {_outer(name) for name in unwrapped.values()} - {None, ""}
    found: dict[str, Tensor] = {}
    origin: dict[str, str] = {}
    for name, inner in unwrapped.items():
        own = _own(inner, outers)
        if own in found and not _same(found[own], tensors[name]):
            raise CheckpointError(
                f"{where}'s weights hold {origin[own]} and {name}, which differ: two models in one "
                "file; save the state_dict of the one to export alone"
            )
        found[own], origin[own] = tensors[name], name
    return found


def full_name(name: str) -> str:
    """Return a plain name as transformers' language model has it."""
    return name if name in (HEAD, SCORE_WEIGHT) else f"{_BODY_PREFIX}{name}"


def _outer(name: str) -> str | None:
    """Return what stands before `transformer.` in a name of the body; None for other names."""
    match = _BODY.fullmatch(name)
    return match["outer"].removesuffix(_BODY_PREFIX) if match else None


def _own(name: str, outers: set[str | None]) -> str:
    match = _BODY.fullmatch(name) or _OWN_HEAD.fullmatch(name)
    if match:
        return match["own"]
    outer = next((outer for outer in outers if outer and name.startswith(outer)), "")
    return name.removeprefix(outer).removeprefix(_BODY_PREFIX)


def _same(one: Tensor, other: Tensor) -> bool:
    return one is other or (one.shape == other.shape and torch.equal(one, other))
