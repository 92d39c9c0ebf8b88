"""The options of a generation as flags, for every verb that generates."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Annotated, Any

import typer

from ..errors import OptionError

_SAMPLING_ONLY = frozenset({"temperature", "top_k", "top_p", "min_p", "typical_p", "seed"})

# Option: type of the flag's value, help. A list is a flag that may be given several times.
_FLAGS: dict[str, tuple[Any, str]] = {
    "max_new_tokens": (int, "Most tokens to generate.  [default: 20]"),
    "max_length": (int, "Most tokens, the prompt's included."),
    "min_new_tokens": (int, "No end of text before so many new tokens."),
    "do_sample": (bool, "Draw tokens at random."),
    "temperature": (float, "Divides logits before drawing.  [default: 1]"),
    "top_k": (int, "Draw among the likeliest k; 0 for all.  [default: 50]"),
    "top_p": (float, "Draw among the likeliest that reach p.  [default: 1]"),
    "min_p": (float, "Draw among those at least p times as likely as the likeliest."),
    "typical_p": (float, "Draw among the most typical that reach p.  [default: 1]"),
    "seed": (int, "Makes the draws repeatable."),
    "repetition_penalty": (float, "Above 1 makes what is in the text less likely.  [default: 1]"),
    "presence_penalty": (float, "Subtracted from generated tokens' logits, once.  [default: 0]"),
    "frequency_penalty": (float, "The same, for each time it was generated.  [default: 0]"),
    "logit_bias": (list[str], "ID=NUMBER, added to a token's logit; repeat for more."),
    "no_repeat_ngram_size": (int, "No sequence of so many tokens twice; 0 for off."),
    "bad_words_ids": (list[str], "ID,ID,... that never come in a row; repeat for more."),
    "suppress_tokens": (list[int], "A token id that never comes; repeat for more."),
    "forced_eos_token_id": (list[int], "The last token when the length runs out."),
    "eos_token_id": (list[int], "A token id that ends the text; repeat for more."),
    "stop_strings": (list[str], "A string that ends the text and is cut; repeat for more."),
    "max_time": (float, "Seconds after which no further token is begun."),
    "num_beams": (int, "Beams of a beam search.  [default: 1]"),
    "length_penalty": (float, "Power of the length that divides a beam's score.  [default: 1]"),
    "early_stopping": (str, "When a beam search ends: true, false or never.  [default: false]"),
    "num_return_sequences": (int, "Texts for the prompt.  [default: 1]"),
    "logprobs": (int, "With --json: log-probabilities of so many likeliest tokens a step."),
    "context_overflow": (str, "At the context's end: stop or reprefill.  [default: stop]"),
    "keep": (int, "First tokens that a reprefill keeps.  [default: 0]"),
}


def with_generation_flags(verb: Callable[..., None]) -> Callable[..., None]:
    """Give a verb a flag for each option; those that were given reach it as its last argument."""
    own = inspect.signature(verb, eval_str=True)
    parameters = [p for name, p in own.parameters.items() if name != "generation"]
    flags = [_flag(name, kind, text) for name, (kind, text) in _FLAGS.items()]

    def run(**arguments: Any) -> None:
        given = {name: arguments.pop(name) for name in _FLAGS}
        generation = {name: value for name, value in given.items() if value not in (None, [])}
        verb(**arguments, generation=_parse(generation))

    run.__name__, run.__doc__ = verb.__name__, verb.__doc__
    run.__annotations__ = {p.name: p.annotation for p in [*parameters, *flags]}
    run.__signature__ = own.replace(parameters=[*parameters, *flags])  # type: ignore[attr-defined]
    return run


def without_effect(generation: dict[str, Any]) -> list[str]:
    """Return the given options that change nothing, as nothing is drawn."""
    return [] if generation.get("do_sample") else sorted(_SAMPLING_ONLY & set(generation))


def _flag(name: str, kind: Any, text: str) -> inspect.Parameter:
    flag = f"--{name.replace('_', '-')}"
    declared = f"{flag}/--no-{flag[2:]}" if kind is bool else flag
    annotation = Annotated[kind | None, typer.Option(declared, help=text, show_default=False)]
    keyword = inspect.Parameter.KEYWORD_ONLY
    return inspect.Parameter(name, keyword, default=None, annotation=annotation)


def _parse(generation: dict[str, Any]) -> dict[str, Any]:
    """Turn what a flag cannot say by itself into the option's value."""
    parsed = dict(generation)
    if "logit_bias" in parsed:
        pairs = [_split("logit_bias", pair, "=", "ID=NUMBER") for pair in parsed["logit_bias"]]
        parsed["logit_bias"] = {int(token_id): amount for token_id, amount in pairs}
    if "bad_words_ids" in parsed:
        words = [
            _split("bad_words_ids", word, ",", "ID,ID,...") for word in parsed["bad_words_ids"]
        ]
        parsed["bad_words_ids"] = [[int(token_id) for token_id in word] for word in words]
    if parsed.get("early_stopping") in ("true", "false"):
        parsed["early_stopping"] = parsed["early_stopping"] == "true"
    return parsed


def _split(name: str, value: str, separator: str, form: str) -> list[float]:
    try:
        numbers = [float(part) for part in value.split(separator)]
    except ValueError:
        numbers = []
    if not numbers or (separator == "=" and len(numbers) != 2):
        raise OptionError(f"{name} should be {form}, not {value!r}")
    return numbers
