"""From a configuration and tensors to the reference model, refusing what does not fit."""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from transformers import GPT2Config, GPT2LMHeadModel
from transformers.activations import ACT2FN
from transformers.utils import logging as transformers_logging

from pocketgpt import CheckpointError
from pocketgpt.engine.contract import SCORE_WEIGHT

from .classifier import GPT2, LM_HEAD, model_class, settle_labels
from .locate import one_line

_SIZES = ("n_layer", "n_head", "n_embd", "n_positions", "vocab_size")
_DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
# Causal masks that older transformers and nanoGPT saved along with the weights.
_MASK_BUFFER = re.compile(r"h\.\d+\.attn\.(bias|masked_bias)")


def make_config(fields: Mapping[str, Any], where: str) -> GPT2Config:
    """Make a configuration from the fields of a config.json.

    Args:
        fields: the JSON object.
        where: what to call the checkpoint in errors.

    Raises:
        CheckpointError: it is not a GPT-2, or one that cannot be exported, or a field is wrong.
    """
    model_type = fields.get("model_type")
    if model_type != "gpt2":
        raise CheckpointError(
            f"{where} is a checkpoint of type {model_type!r}; PocketGPT exports 'gpt2' alone"
        )
    if fields.get("add_cross_attention"):
        raise CheckpointError(
            f"{where} has cross-attention (add_cross_attention): it is half of an encoder-decoder, "
            "which PocketGPT does not export; Optimum does"
        )
    if fields.get("quantization_config"):
        raise CheckpointError(
            f"{where} is quantized already (quantization_config); export the checkpoint it was "
            "made from, then 'pocketgpt quantize'"
        )
    try:
        with quiet_transformers():
            config: GPT2Config = GPT2Config.from_dict(dict(fields))
    except Exception as error:  # by version, any kind
        raise CheckpointError(f"{where}'s config.json is wrong: {one_line(error)}") from error
    for name in _SIZES:
        value = getattr(config, name)
        if type(value) is not int or value < 1:
            raise CheckpointError(
                f"{where}'s config.json gives {name} as {value!r}, not a whole number above 0"
            )
    if config.n_embd % config.n_head:
        raise CheckpointError(
            f"{where}'s config.json gives a width of {config.n_embd}, which {config.n_head} heads "
            "cannot share"
        )
    if config.activation_function not in ACT2FN:
        raise CheckpointError(
            f"{where}'s activation_function {config.activation_function!r} is not one that this "
            f"transformers has: {', '.join(ACT2FN)}"
        )
    return config


def assemble(config: GPT2Config, tensors: Mapping[str, Tensor], where: str) -> GPT2:
    """Make the reference model: float32, eager attention, in evaluation mode.

    Float32 tensors become its parameters as they are, without a copy.

    Args:
        config: its shape.
        tensors: by their names in transformers, with or without the prefix `transformer.`.
        where: what to call the checkpoint in errors.

    Raises:
        CheckpointError: a tensor is missing, unknown, of a wrong shape or type, or not finite.
    """
    state = _plain_names(tensors)
    kind = model_class(config, tensors)
    if kind is not GPT2LMHeadModel:
        settle_labels(config, where)
    tied = kind is GPT2LMHeadModel and config.tie_word_embeddings
    if tied and "wte.weight" in state:
        state.setdefault(LM_HEAD, state["wte.weight"])
    if config.n_layer > len(state):  # before that many layers are built to compare
        raise CheckpointError(
            f"{where}'s weights do not fit its config.json: {len(state)} tensors are too few for "
            f"{config.n_layer} layers"
        )
    _check_fit(state, _expected_shapes(kind, config, where), where)
    table = state["wte.weight"]
    head = state.pop(LM_HEAD) if tied else table
    if head is not table and not torch.equal(head, table):
        raise CheckpointError(
            f"{where}'s config.json ties {LM_HEAD} to the embedding, and the weights hold another; "
            "set tie_word_embeddings to false there if the head is its own"
        )
    for name, tensor in state.items():
        if tensor.dtype not in _DTYPES:
            raise CheckpointError(
                f"{where}'s weights hold {tensor.dtype} in {name}; PocketGPT exports floating "
                "point checkpoints"
            )
    named = {_full_name(name): tensor for name, tensor in state.items()}
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


def _plain_names(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    plain = {name.removeprefix("transformer."): tensor for name, tensor in tensors.items()}
    return {name: tensor for name, tensor in plain.items() if not _MASK_BUFFER.fullmatch(name)}


def _full_name(name: str) -> str:
    return name if name in (LM_HEAD, SCORE_WEIGHT) else f"transformer.{name}"


def _expected_shapes(kind: type[GPT2], config: GPT2Config, where: str) -> dict[str, torch.Size]:
    plain = copy.deepcopy(config)
    plain.activation_function = "relu"  # xIELU computes with its numbers, and meta has none
    try:
        with torch.device("meta"), quiet_transformers():
            state = _plain_names(kind(plain).state_dict())
    except Exception as error:  # sizes that no tensor can have, a negative n_inner
        raise CheckpointError(f"{where}'s config.json is wrong: {one_line(error)}") from error
    with quiet_transformers():
        activation = ACT2FN[config.activation_function].state_dict()
    for layer in range(config.n_layer):
        state |= {f"h.{layer}.mlp.act.{name}": tensor for name, tensor in activation.items()}
    return {name: tensor.shape for name, tensor in state.items()}


def _check_fit(state: dict[str, Tensor], shapes: dict[str, torch.Size], where: str) -> None:
    config_says = f"{where}'s weights do not fit its config.json:"
    missing = sorted(map(_full_name, shapes.keys() - state))
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


@contextmanager
def quiet_transformers() -> Iterator[None]:
    """Keep transformers' remarks and progress bars off the screen: what matters is checked here."""
    verbosity = transformers_logging.get_verbosity()
    bars = transformers_logging.is_progress_bar_enabled()
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        transformers_logging.set_verbosity(verbosity)
        if bars:
            transformers_logging.enable_progress_bar()
