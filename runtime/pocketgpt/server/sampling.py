"""The fields that both kinds of request have: how to generate, under OpenAI's names and ours.

What a request leaves out is as in OpenAI's API: texts are drawn at temperature 1 among all tokens.
What the folder's generation_config.json says goes before that, and the request before both.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..errors import OptionError
from ..generation.option_fields import OptionFields
from .errors import param_of, wrong
from .fields import Fields

MOST_STOPS = 4
MOST_RETURNED = 128  # n and best_of
SEEDS = 1 << 63  # the API takes 64 bits and a sign
# Options that requests have in another way, or not at all.
_OTHERWISE = {"logits_processor", "num_return_sequences", "logprobs", "bos_token_id"}
OWN = {
    field.name: field for field in dataclasses.fields(OptionFields) if field.name not in _OTHERWISE
}
_API_NAMES = (
    "temperature", "top_p", "seed", "presence_penalty", "frequency_penalty", "logit_bias"
)  # fmt: skip
_ANY_OBJECT = {"type": "object"}


@dataclass(frozen=True)
class Delivery:
    """How an answer is to come: whole, or as a stream, with the usage at its end or without."""

    stream: bool
    include_usage: bool


def read_delivery(fields: Fields) -> Delivery:
    """Take `stream` and `stream_options`."""
    stream = fields.switch("stream")
    options = fields.inner("stream_options")
    if options is None:
        return Delivery(stream, False)
    if not stream:
        raise wrong("stream_options is only there where stream is true", "stream_options")
    include_usage = options.switch("include_usage")
    options.ignore("include_obfuscation")
    options.finish()
    return Delivery(stream, include_usage)


def read_options(
    fields: Fields, defaults: Mapping[str, Any], limit_seconds: float
) -> dict[str, Any]:
    """Take what says how to generate; return it as options for `Model.resolve`.

    Args:
        fields: a request's.
        defaults: what the folder's generation_config.json says.
        limit_seconds: the longest that a request may take.

    Raises:
        ApiError: a value is not what it should be.
    """
    options = _read_own(fields)
    options |= _read_format(fields, options)
    penalties = ("presence_penalty", "frequency_penalty")
    options |= _said({name: fields.number(name, -2, 2) for name in penalties})
    options |= _said({"logit_bias": _bias(fields), "stop_strings": _stops(fields, options)})
    seed = fields.whole("seed", None, -SEEDS, SEEDS - 1)
    if seed is not None:
        options["seed"] = seed % (1 << 64)
    options |= _read_draw(fields, options, defaults)
    options["max_time"] = min(options.get("max_time", limit_seconds), limit_seconds)
    return options


def _read_own(fields: Fields) -> dict[str, Any]:
    """Take our own options; each is checked by its own kind, so that errors name it."""
    options = {}
    for name, field in OWN.items():
        if name in _API_NAMES:
            continue
        value = fields.any(name)
        if value is None:
            continue
        try:
            options[name] = field.metadata["kind"].read(name, value)
        except OptionError as error:
            raise wrong(str(error), name, "invalid_value") from None
    return options


def _read_draw(
    fields: Fields, options: Mapping[str, Any], defaults: Mapping[str, Any]
) -> dict[str, Any]:
    """Take temperature and top_p: either at 0 takes the likeliest token every time."""
    temperature, top_p = fields.number("temperature", 0, 2), fields.number("top_p", 0, 1)
    said = temperature is not None or top_p is not None
    searched = options.get("num_beams", defaults.get("num_beams", 1)) != 1
    drawn: dict[str, Any] = {}
    if "do_sample" in options:
        draws = options["do_sample"]
    elif temperature == 0 or top_p == 0:
        draws = False
    else:
        draws = True if said else defaults.get("do_sample", not searched)
    drawn["do_sample"] = draws
    if not draws:
        return drawn
    if "top_k" not in options and "top_k" not in defaults:
        drawn["top_k"] = 0
    return drawn | _said({"temperature": temperature, "top_p": top_p})


def _read_format(fields: Fields, options: Mapping[str, Any]) -> dict[str, Any]:
    """Take `response_format`: a schema becomes the option json_schema."""
    given = fields.inner("response_format")
    if given is None:
        return {}
    kind = given.text("type")
    schema: Any = None
    if kind == "json_object":
        schema = _ANY_OBJECT
    elif kind == "json_schema":
        described = given.inner("json_schema")
        schema = described and described.any("schema")
        if described is None or not isinstance(schema, dict):
            raise wrong(
                "response_format.json_schema.schema should be a JSON schema, an object",
                "response_format",
            )
        described.ignore("name", "description", "strict")
        described.finish()
    elif kind != "text":
        raise given.refused("type", "text, json_object or json_schema", kind)
    given.finish()
    if schema is None:
        return {}
    if "json_schema" in options:
        raise wrong("response_format and json_schema do not go together", "response_format")
    return {"json_schema": OWN["json_schema"].metadata["kind"].read("json_schema", schema)}


def _bias(fields: Fields) -> Any:
    value = fields.any("logit_bias")
    if value is None:
        return None
    try:
        return OWN["logit_bias"].metadata["kind"].read("logit_bias", value)
    except OptionError as error:
        raise wrong(str(error), "logit_bias", "invalid_value") from None


def _stops(fields: Fields, options: Mapping[str, Any]) -> list[str] | None:
    value = fields.any("stop")
    if value is None:
        return None
    stops = [value] if isinstance(value, str) else value
    if not isinstance(stops, list) or not all(isinstance(stop, str) for stop in stops):
        raise fields.refused("stop", "a string or a list of strings", value)
    if len(stops) > MOST_STOPS:
        raise wrong(f"stop has {len(stops)} strings, and at most {MOST_STOPS} are taken", "stop")
    if not all(stops):
        raise wrong("stop holds an empty string, which is found everywhere; remove it", "stop")
    if stops and "stop_strings" in options:
        raise wrong("stop and stop_strings are the same: give one of them", "stop")
    return stops or None


def read_length(fields: Fields, names: tuple[str, ...], options: dict[str, Any]) -> int | None:
    """Take the most new tokens, under one of several names; None where none is given.

    0 is for who wants a prompt scored, and nothing behind it.
    """
    given = {name: fields.whole(name, None, 0) for name in names}
    if "max_new_tokens" in options:
        given["max_new_tokens"] = options.pop("max_new_tokens")
    said = {name: value for name, value in given.items() if value is not None}
    if len(said) > 1:
        raise wrong(f"{' and '.join(said)} are the same: give one of them", next(iter(said)))
    return next(iter(said.values()), None)


def check_stream_of_best(best_of: int, n: int, stream: bool) -> None:
    """Refuse a stream of what is to be chosen only once it is whole."""
    if best_of < n:
        raise wrong(f"best_of is {best_of}, less than n, {n}; raise it", "best_of")
    if stream and best_of > n:
        raise wrong("best_of above n cannot be streamed: the best are known at the end", "best_of")


def refused_option(error: OptionError) -> Exception:
    """Return what a client is told of options that do not go together, or with the model."""
    return wrong(str(error), param_of(str(error)))


def _said(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}
