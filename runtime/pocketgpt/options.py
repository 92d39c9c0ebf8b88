"""Options of a generation, under Hugging Face's names and with transformers' defaults."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .errors import OptionError

DEFAULT_NEW_TOKENS = 20  # transformers' default when neither length is given


@dataclass(frozen=True)
class GenerationOptions:
    """How to generate.

    Args:
        max_new_tokens: most tokens to generate; takes precedence over `max_length`.
        max_length: most tokens, the prompt's included. Without both, 20 new tokens.
        do_sample: draw each token at random instead of taking the likeliest one.
        temperature: what logits are divided by before drawing; above 0.
        top_k: draw among this many likeliest tokens; 0 for all.
        top_p: draw among the likeliest tokens that together reach this probability; in (0, 1].
        seed: makes the draws repeatable; None for fresh ones every time.
        eos_token_id: a generated token that ends the text, or several of them.
        bos_token_id: what an empty prompt starts from.

    Raises:
        OptionError: a value is out of range; the message names the option.
    """

    max_new_tokens: int | None = None
    max_length: int | None = None
    do_sample: bool = False
    temperature: float = 1.0
    top_k: int = 50
    top_p: float = 1.0
    seed: int | None = None
    eos_token_id: int | Sequence[int] | None = None
    bos_token_id: int | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.do_sample, bool):
            raise OptionError(f"do_sample should be true or false, not {self.do_sample!r}")
        _check_whole("max_new_tokens", self.max_new_tokens, at_least=1, optional=True)
        _check_whole("max_length", self.max_length, at_least=1, optional=True)
        _check_whole("top_k", self.top_k, at_least=0)
        _check_whole("seed", self.seed, at_least=0, optional=True)
        _check_whole("bos_token_id", self.bos_token_id, at_least=0, optional=True)
        for token_id in self.eos_token_ids:
            _check_whole("eos_token_id", token_id, at_least=0)
        if not _is_number(self.temperature) or self.temperature <= 0:
            raise OptionError(
                f"temperature should be above 0, not {self.temperature!r}; "
                "for the likeliest token every time use do_sample=False"
            )
        if not _is_number(self.top_p) or not 0 < self.top_p <= 1:
            raise OptionError(f"top_p should be above 0 and at most 1, not {self.top_p!r}")

    @property
    def eos_token_ids(self) -> tuple[int, ...]:
        """The ids that end a text."""
        if self.eos_token_id is None:
            return ()
        if isinstance(self.eos_token_id, Sequence):
            return tuple(self.eos_token_id)
        return (self.eos_token_id,)

    @classmethod
    def resolve(cls, defaults: Mapping[str, Any], given: Mapping[str, Any]) -> GenerationOptions:
        """Combine a folder's generation_config.json with a call's keyword arguments.

        Keys of `defaults` that are no options (versions, say) are passed over.

        Raises:
            OptionError: `given` has an unknown option, or a value is out of range.
        """
        known = {field.name for field in dataclasses.fields(cls)}
        unknown = sorted(set(given) - known)
        if unknown:
            raise OptionError(
                f"unknown option {', '.join(unknown)}; there are {', '.join(sorted(known))}"
            )
        folder = {key: value for key, value in defaults.items() if key in known}
        return cls(
            **{**{key: value for key, value in folder.items() if value is not None}, **given}
        )

    def new_token_budget(self, prompt_length: int) -> int:
        """Return how many tokens may follow a prompt of `prompt_length` tokens.

        Raises:
            OptionError: `max_length` leaves no room.
        """
        if self.max_new_tokens is not None:
            return self.max_new_tokens
        if self.max_length is None:
            return DEFAULT_NEW_TOKENS
        if self.max_length <= prompt_length:
            raise OptionError(
                f"max_length is {self.max_length} and the prompt alone has {prompt_length} tokens; "
                "raise it, or use max_new_tokens"
            )
        return self.max_length - prompt_length


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _check_whole(name: str, value: object, *, at_least: int, optional: bool = False) -> None:
    if value is None and optional:
        return
    if not isinstance(value, int) or isinstance(value, bool) or value < at_least:
        raise OptionError(f"{name} should be a whole number of at least {at_least}, not {value!r}")
