"""From a configuration and tensors to the reference model, refusing what does not fit."""

from __future__ import annotations

import copy
import re
from collections.abc import Mapping

import torch
from torch import Tensor
from transformers import GPT2Config, GPT2LMHeadModel
from transformers.activations import ACT2FN

from pocketgpt import CheckpointError
from pocketgpt.errors import one_line

from .classifier import GPT2, model_class, settle_labels
from .names import HEAD, TABLE, full_name
from .quiet import quiet_transformers

_DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
# What is no weight: causal masks that older transformers and nanoGPT saved along, positions, and
# how many models an average (AveragedModel of PyTorch) is of.
_BUFFER = re.compile(r"h\.\d+\.attn\.(bias|masked_bias)|(.*\.)?(position_ids|n_averaged)")


def assemble(config: GPT2Config, tensors: Mapping[str, Tensor], where: str) -> GPT2:
    """Make the reference model: float32, eager attention, in evaluation mode.

    Float32 tensors become its parameters as they are, without a copy.

    Args:
        config: its shape.
        tensors: by GPT-2's plain names, see `plain_names`.
        where: what to call the checkpoint in errors.

    Raises:
        CheckpointError: a tensor is missing, unknown, of a wrong shape or type, or not finite.
    """
    state = _without_buffers(tensors)
    kind = model_class(config, tensors)
    if kind is not GPT2LMHeadModel:
        settle_labels(config, where)
    tied = kind is GPT2LMHeadModel and config.tie_word_embeddings
    if tied:  # whichever of the two names the file kept
        for kept, other in ((TABLE, HEAD), (HEAD, TABLE)):
            if kept in state:
                state.setdefault(other, state[kept])
    if config.n_layer > len(state):  # before that many layers are built to compare
        raise CheckpointError(
            f"{where}'s weights do not fit its config.json: {len(state)} tensors are too few for "
            f"{config.n_layer} layers"
        )
    _check_fit(state, _expected_shapes(kind, config, where), where)
    table = state[TABLE]
    head = state.pop(HEAD) if tied else table
    if head is not table and not torch.equal(head, table):
        raise CheckpointError(
            f"{where}'s config.json ties {HEAD} to the embedding, and the weights hold another; "
            "set tie_word_embeddings to false there if the head is its own"
        )
    for name, tensor in state.items():
        if tensor.dtype not in _DTYPES:
            raise CheckpointError(
                f"{where}'s weights hold {tensor.dtype} in {name}; PocketGPT exports floating "
                "point checkpoints"
            )
    named = {full_name(name): tensor for name, tensor in state.items()}
    try:
        with quiet_transformers():
            model: GPT2 = kind.from_pretrained(
                None,
                config=config,
                state_dict=named,
                dtype=torch.float32,
                attn_implementation="eager",
            )
    except Exception as error:  # by version, any kind
        raise CheckpointError(f"{where} cannot be loaded: {one_line(error)}") from error
    for name, parameter in model.named_parameters():
        if not torch.isfinite(parameter).all():
            raise CheckpointError(f"{where}'s weights hold NaN or infinity, in {name}")
    model.requires_grad_(False)
    model.train(False)
    return model


def _without_buffers(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor for name, tensor in tensors.items() if not _BUFFER.fullmatch(name)}


def _expected_shapes(kind: type[GPT2], config: GPT2Config, where: str) -> dict[str, torch.Size]:
    plain = copy.deepcopy(config)
    plain.activation_function = "relu"  # xIELU computes with its numbers, and meta has none
    try:
        with torch.device("meta"), quiet_transformers():
            model = kind(plain)
        state = {n.removeprefix("transformer."): t for n, t in model.state_dict().items()}
        state = _without_buffers(state)
    except Exception as error:  # sizes that no tensor can have, a negative n_inner
        raise CheckpointError(f"{where}'s config.json is wrong: {one_line(error)}") from error
    with quiet_transformers():
        activation = ACT2FN[config.activation_function].state_dict()
    for layer in range(config.n_layer):
        state |= {f"h.{layer}.mlp.act.{name}": tensor for name, tensor in activation.items()}
    return {name: tensor.shape for name, tensor in state.items()}


def _check_fit(state: dict[str, Tensor], shapes: dict[str, torch.Size], where: str) -> None:
    config_says = f"{where}'s weights do not fit its config.json:"
    missing = sorted(map(full_name, shapes.keys() - state))
    if missing:
        raise CheckpointError(f"{config_says} {len(missing)} missing keys, the first {missing[0]}")
    unexpected = sorted(state.keys() - shapes)
    if unexpected:
        raise CheckpointError(
            f"{config_says} {len(unexpected)} unexpected keys, the first {unexpected[0]}"
        )
    for name, shape in shapes.items():
        if state[name].shape != shape:
            raise CheckpointError(
                f"{config_says} {name} has shape {[*state[name].shape]}, not {[*shape]}"
            )
