"""Tensors' names as transformers has them, whatever a model was wrapped in when it was saved.

torch.compile puts `_orig_mod.` before every name, DistributedDataParallel `module.`, Opacus
`_module.`, a trainer's class the name of its field; FSDP and activation checkpointing put theirs
within (`h.0._fsdp_wrapped_module.attn`). GPT-2's own names tell where a wrapper's end.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

from pocketgpt import CheckpointError
from pocketgpt.engine.contract import SCORE_WEIGHT

HEAD, TABLE = "lm_head.weight", "wte.weight"
_BODY = re.compile(r"(?P<outer>(?:.*?\.)?)(?P<own>(?:(?:wte|wpe|ln_f)\.|h\.\d+\.).+)")
# A wrapper's field within a name: private by its underscore, or PyTorch's plain `module`.
_WITHIN = re.compile(r"(?<![^.])(?:_\w+|module)\.")
_BODY_PREFIX = "transformer."
_PEFT = "base_model.model."  # before every name in an adapter
_ON_HEAD = re.compile(r"(?:.*?\.)?((?:lm_head|score)\..+)")


def plain_names(tensors: Mapping[str, Tensor], where: str) -> dict[str, Tensor]:
    """Return the tensors by GPT-2's own names, without `transformer.` and without wrappers'.

    Args:
        tensors: as they were saved.
        where: what to call the checkpoint in errors.

    Raises:
        CheckpointError: there are two models in it, or two different tensors of one name.
    """
    unwrapped = {name: _WITHIN.sub("", name) for name in tensors}
    outer = _common_outer(unwrapped.values(), where)
    found: dict[str, Tensor] = {}
    origin: dict[str, str] = {}
    for name, inner in unwrapped.items():
        own = _own(inner, outer)
        if own in found and not _same(found[own], tensors[name]):
            raise _two_models(origin[own], name, where)
        found[own], origin[own] = tensors[name], name
    return found


def _own(name: str, outer: str) -> str:
    """Return a name without the body's wrappers; the head may be in the outermost of them alone."""
    for head in (HEAD, SCORE_WEIGHT):
        if name.endswith(head) and outer.startswith(name.removesuffix(head)):
            return head
    return name.removeprefix(outer).removeprefix(_BODY_PREFIX)


def unwrapped(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return a PEFT adapter's tensors by the names it has on a language model that nothing wraps.

    Where two would have one name, all stay as they are.
    """
    renamed = {_unwrapped(name): tensor for name, tensor in tensors.items()}
    return renamed if len(renamed) == len(tensors) else dict(tensors)


def _unwrapped(name: str) -> str:
    inner = _WITHIN.sub("", name)
    own = _ON_HEAD.fullmatch(inner)
    if own is None:
        body = _BODY.fullmatch(inner)
        return name if body is None else f"{_PEFT}{_BODY_PREFIX}{body['own']}"
    return f"{_PEFT}{own[1]}"


def full_name(name: str) -> str:
    """Return a plain name as transformers' language model has it."""
    return name if name in (HEAD, SCORE_WEIGHT) else f"{_BODY_PREFIX}{name}"


def _common_outer(names: Iterable[str], where: str) -> str:
    """Return what stands before `transformer.` in most names of the body: the wrapper's.

    Most, not all: a name that was damaged is still missed under its own.
    """
    bodies = [match for name in names if (match := _BODY.fullmatch(name))]
    outers = Counter(match["outer"].removesuffix(_BODY_PREFIX) for match in bodies)
    tables = [match for match in bodies if match["own"] == TABLE]
    if len({match["outer"].removesuffix(_BODY_PREFIX) for match in tables}) > 1:
        raise _two_models(tables[0][0], tables[1][0], where)
    return outers.most_common(1)[0][0] if outers else ""


def _two_models(one: str, other: str, where: str) -> CheckpointError:
    return CheckpointError(
        f"{where}'s weights hold {one} and {other}: two models in one file; save the state_dict of "
        "the one to export alone"
    )


def _same(one: Tensor, other: Tensor) -> bool:
    return one is other or (one.shape == other.shape and torch.equal(one, other))
