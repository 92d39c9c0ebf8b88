"""From the fields of a config.json to GPT-2's configuration; what other tools keep there stays out.

A config.json also holds what a program was told to do (`return_dict`, `torchscript`,
`output_attentions`, an attention implementation, a dtype): none of it says what the model is, and
some of it changes what PyTorch returns. So only fields that are known to say it are taken.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from transformers import GenerationConfig, GPT2Config
from transformers.activations import ACT2FN

from pocketgpt import CheckpointError
from pocketgpt.errors import one_line
from pocketgpt.folder.config import LARGEST_SIZE, SIZES
from pocketgpt.folder.fields import is_number, is_whole, shown

from .heads import check_architectures, head_of, is_language_model
from .quiet import quiet_transformers

# The same in configurations that use transformers' common names.
_COMMON_NAMES = {
    "num_hidden_layers": "n_layer",
    "num_attention_heads": "n_head",
    "hidden_size": "n_embd",
    "max_position_embeddings": "n_positions",
}
_FLAGS = (
    *("tie_word_embeddings", "scale_attn_weights"),
    *("scale_attn_by_inverse_layer_idx", "reorder_and_upcast_attn"),
)
_COMPUTES = ("n_inner", "activation_function", "layer_norm_epsilon", *_FLAGS)
# What only training computes with, from 0 to 1.
_TRAINS = ("resid_pdrop", "embd_pdrop", "attn_pdrop", "initializer_range")
_LABELS = ("id2label", "label2id")
_MOST_LABELS = 2**20
_DESCRIBES = (
    *("bos_token_id", "eos_token_id", "pad_token_id", "sep_token_id", "decoder_start_token_id"),
    *("summary_type", "summary_use_proj", "summary_activation", "summary_first_dropout"),
    *("summary_proj_to_labels", "task_specific_params", "problem_type", "num_labels", *_LABELS),
)
# Of GenerationConfig, whose fields older checkpoints have here: what is about the program, too.
_OF_THE_PROGRAM = ("output_", "return_", "use_cache", "cache_", "_", "transformers_version")
# What a configuration of 2019 has, from before transformers wrote model_type.
_OF_2019 = {"n_ctx", "n_embd", "n_head", "n_layer"}
_OF_GPT_1_AND_CTRL = {"afn", "dff"}  # which have those sizes, too
_BITSANDBYTES = ("load_in_4bit", "load_in_8bit")


def make_config(fields: Mapping[str, Any], where: str) -> GPT2Config:
    """Make a configuration from the fields of a config.json.

    Args:
        fields: the JSON object.
        where: what to call the checkpoint in errors.

    Raises:
        CheckpointError: it is not a GPT-2, or one that cannot be exported, or a field is wrong.
    """
    _check_kind(fields, where)
    check_architectures(fields.get("architectures"), where)
    names = _taken_names()
    taken = {name: value for name, value in fields.items() if name in names and _says(name, value)}
    if is_language_model(fields.get("architectures")):
        taken = _without_odd_labels(taken)
    try:
        with quiet_transformers():
            config: GPT2Config = GPT2Config.from_dict(taken)
    except Exception as error:  # by version, any kind
        raise CheckpointError(f"{where}'s config.json is wrong: {one_line(error)}") from error
    config.architectures = [head_of(fields.get("architectures"))]
    _check_values(config, where)
    return config


def _taken_names() -> set[str]:
    generation = {
        name for name in GenerationConfig().to_dict() if not name.startswith(_OF_THE_PROGRAM)
    }
    return {*SIZES, *_COMMON_NAMES, *_COMPUTES, *_TRAINS, *_DESCRIBES, *generation}


def _says(name: str, value: object) -> bool:
    """Whether a field says anything: no null where there is a default, no labels that are none."""
    if name in _LABELS:
        return isinstance(value, dict)
    if name == "num_labels":
        return is_whole(value, 1, _MOST_LABELS)
    if name in _TRAINS:
        return _is_fraction(value)
    return value is not None or name not in (*_COMPUTES, *_COMMON_NAMES)


def _without_odd_labels(fields: dict[str, Any]) -> dict[str, Any]:
    """Leave out labels that cannot be read, of a model that should need none."""
    labels = {name: fields[name] for name in (*_LABELS, "problem_type") if name in fields}
    try:
        with quiet_transformers():
            GPT2Config.from_dict(labels)
    except Exception:  # by version, any kind
        return {name: value for name, value in fields.items() if name not in labels}
    return fields


def _check_kind(fields: Mapping[str, Any], where: str) -> None:
    """Refuse what is no GPT-2, or half of something, or quantized."""
    model_type = fields.get("model_type")
    if isinstance(fields.get("text_config"), Mapping) and not fields.keys() & {*SIZES}:
        raise CheckpointError(
            f"{where}'s config.json keeps the model's fields in text_config: write those to the "
            "file itself, in the place of what is there"
        )
    if model_type is None and not _is_of_2019(fields):
        raise CheckpointError(
            f"{where}'s config.json has no model_type, and too little else that tells what it is; "
            'if it is a GPT-2, add "model_type": "gpt2"'
        )
    if model_type not in (None, "gpt2"):
        raise CheckpointError(
            f"{where} is a checkpoint of type {model_type!r}; PocketGPT exports 'gpt2' alone"
        )
    if fields.get("add_cross_attention"):
        raise CheckpointError(
            f"{where} has cross-attention (add_cross_attention): it is half of an encoder-decoder, "
            "which PocketGPT does not export; Optimum does"
        )
    if _quantizes(fields.get("quantization_config")):
        raise CheckpointError(
            f"{where} is quantized already (quantization_config); export the checkpoint it was "
            "made from, then 'pocketgpt quantize'"
        )


def _is_of_2019(fields: Mapping[str, Any]) -> bool:
    """Whether a configuration without model_type is GPT-2's all the same."""
    architectures = fields.get("architectures")
    if isinstance(architectures, list) and architectures:
        return all(str(name).startswith("GPT2") for name in architectures)
    return fields.keys() >= _OF_2019 and not fields.keys() & _OF_GPT_1_AND_CTRL


def _quantizes(settings: object) -> bool:
    """Whether a quantization_config says that the weights are quantized, or is a leftover."""
    if isinstance(settings, Mapping) and any(name in settings for name in _BITSANDBYTES):
        return any(settings.get(name) for name in _BITSANDBYTES)
    return bool(settings)


def _check_values(config: GPT2Config, where: str) -> None:
    for name in SIZES:
        value = getattr(config, name)
        if not is_whole(value, 1, LARGEST_SIZE):
            raise CheckpointError(
                f"{where}'s config.json gives {name} as {shown(value)}, not a whole number above 0"
            )
    if config.n_embd % config.n_head:
        raise CheckpointError(
            f"{where}'s config.json gives a width of {config.n_embd}, which {config.n_head} heads "
            "cannot share"
        )
    for name, holds, wanted in _other_values(config):
        if not holds:
            found = shown(getattr(config, name))
            raise CheckpointError(f"{where}'s config.json gives {name} as {found}, not {wanted}")
    if str(config.activation_function) not in ACT2FN:
        raise CheckpointError(
            f"{where}'s activation_function {config.activation_function!r} is not one that this "
            f"transformers has: {', '.join(ACT2FN)}"
        )


def _other_values(config: GPT2Config) -> Iterator[tuple[str, bool, str]]:
    """Yield the name of each other field that computes, whether it can, and what it should be."""
    for name in _FLAGS:
        yield name, getattr(config, name) in (True, False), "true or false"
    epsilon, inner = config.layer_norm_epsilon, config.n_inner
    yield "layer_norm_epsilon", _is_fraction(epsilon), "a number from 0 to 1"
    yield "n_inner", inner is None or is_whole(inner, 1), "a whole number above 0"


def _is_fraction(value: Any) -> bool:
    return is_number(value) and 0 <= value <= 1
