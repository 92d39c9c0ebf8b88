"""A folder's generation_config.json as options: what other programs leave in it is made usable.

transformers takes 12.0 for 12, and token ids that the vocabulary does not have, -1 or GPT-2's 50256
in a smaller model, never come up. None of that may make every call fail.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

from ..folder.fields import is_whole, shown
from .option_fields import OptionFields
from .option_kinds import SequenceBias, TokenBias, TokenId, TokenIds, TokenSequences
from .option_kinds.base import is_list

_LARGEST = 2**53  # from where on every float is whole
# Fields of transformers' GenerationConfig that change which tokens come, and are no options here;
# and with what value they change nothing.
UNHEEDED: Mapping[str, object] = {
    "begin_suppress_tokens": [],
    "constraints": [],
    "diversity_penalty": 0,
    "dola_layers": None,
    "epsilon_cutoff": 0,
    "eta_cutoff": 0,
    "force_words_ids": [],
    "guidance_scale": 1,
    "num_beam_groups": 1,
    "penalty_alpha": 0,
    "remove_invalid_values": False,
    "token_healing": False,
    "top_h": None,
    "watermarking_config": None,
}


def usable_defaults(defaults: Mapping[str, Any], vocab_size: int) -> dict[str, Any]:
    """Return what a folder says of the options: whole numbers whole, ids of the vocabulary alone.

    Values that cannot be read are kept: where they are used, they are refused by name.

    Args:
        defaults: the fields of generation_config.json.
        vocab_size: how many tokens the model has.
    """
    usable = {}
    for field in dataclasses.fields(OptionFields):
        value = _whole(defaults.get(field.name))
        if value is not None:
            value = _within(field.metadata["kind"], value, vocab_size)
        if value is not None and field.name != "logits_processor":
            usable[field.name] = value
    return usable


def default_remarks(defaults: Mapping[str, Any], vocab_size: int) -> Iterator[str]:
    """Yield a line for each field that PocketGPT passes over and transformers heeds or fails on."""
    for name, neutral in UNHEEDED.items():
        value = defaults.get(name)
        if value is not None and value != neutral:
            yield f"{name} ({shown(value)}) is passed over: PocketGPT has no such option"
    usable = usable_defaults(defaults, vocab_size)
    for name in (field.name for field in dataclasses.fields(OptionFields)):
        value = _whole(defaults.get(name))
        is_said = value not in (None, [], {}) and value == value  # NaN is refused by name
        if is_said and name != "logits_processor" and usable.get(name) != value:
            outside = f"token ids outside the vocabulary of {vocab_size}"
            yield f"{name} ({shown(value)}) has {outside}, which are passed over"


def _whole(value: Any) -> Any:
    """Return a value of JSON with 12 for 12.0 in it, at any depth."""
    if isinstance(value, float) and value.is_integer() and abs(value) < _LARGEST:
        return int(value)
    if isinstance(value, dict):
        return {key: _whole(part) for key, part in value.items()}
    return [_whole(part) for part in value] if isinstance(value, list) else value


def _within(kind: object, value: Any, size: int) -> Any:
    """Return a value without token ids that no token has; None where none is left."""
    if isinstance(kind, TokenId) or (isinstance(kind, TokenIds) and not is_list(value)):
        return None if _is_outside(value, size) else value
    if isinstance(kind, TokenIds):
        return [token_id for token_id in value if not _is_outside(token_id, size)] or None
    if isinstance(kind, TokenSequences) and is_list(value):
        return [ids for ids in value if not _has_outside(ids, size)] or None
    if isinstance(kind, SequenceBias) and is_list(value):
        return [pair for pair in value if not _has_outside(_first(pair), size)] or None
    if isinstance(kind, TokenBias) and isinstance(value, dict):
        return {key: bias for key, bias in value.items() if not _is_outside(key, size)} or None
    return value


def _is_outside(token_id: object, size: int) -> bool:
    """Whether a whole number is no token's; what is no number is refused where it is used."""
    number = int(token_id) if isinstance(token_id, str) and token_id.isdecimal() else token_id
    is_number = isinstance(number, int) and not isinstance(number, bool)
    return is_number and not is_whole(number, 0, size - 1)


def _has_outside(ids: object, size: int) -> bool:
    return isinstance(ids, list) and any(_is_outside(token_id, size) for token_id in ids)


def _first(pair: object) -> object:
    return pair[0] if isinstance(pair, list) and pair else None
