"""Options of a generation, under Hugging Face's names and with transformers' defaults, checked."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from ..errors import OptionError
from ..folder.config import GENERATION_CONFIG
from .option_fields import OptionFields
from .option_kinds import FrozenMapping

DEFAULT_NEW_TOKENS = 20  # transformers' default when neither length is given
_OF_BEAMS = ("length_penalty", "early_stopping")
CONSTRAINTS = ("json_schema", "regex", "grammar")


@dataclass(frozen=True)
class GenerationOptions(OptionFields):
    """How to generate; docs/options.md lists every option with its default and what it does.

    Raises:
        OptionError: a value is out of range, or two do not go together; the message names them.
    """

    def __post_init__(self) -> None:
        """Check every value, and keep it in a form that nobody else can change.

        Raises:
            OptionError: a value is out of range, or two do not go together; the message names them.
        """
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if value is None and field.default in (None, (), FrozenMapping()):
                value = field.default
            elif value is not field.default:
                value = field.metadata["kind"].read(field.name, value)
            object.__setattr__(self, field.name, value)
        self._check_combinations()

    def _check_combinations(self) -> None:
        returned = self.num_return_sequences
        if self.num_beams > 1:
            if returned > self.num_beams:
                raise OptionError(
                    f"num_return_sequences is {returned}, more than num_beams {self.num_beams}; "
                    "raise num_beams"
                )
            if self.logprobs is not None:
                raise OptionError("logprobs is not there for beam search; use num_beams=1")
            if self.xtc_probability:
                raise OptionError("xtc_probability is not there for beam search; use num_beams=1")
            if self.prompt_lookup_num_tokens is not None:
                raise OptionError(
                    "prompt_lookup_num_tokens is not there for beam search; use num_beams=1"
                )
            if self.context_overflow != "stop":
                raise OptionError("context_overflow='reprefill' needs num_beams=1")
        elif returned > 1 and not self.do_sample:
            raise OptionError(
                f"num_return_sequences={returned} would give the same text {returned} times; "
                "use do_sample=True or num_beams"
            )
        self._check_constraint()

    def _check_constraint(self) -> None:
        given = [name for name in CONSTRAINTS if getattr(self, name) is not None]
        if len(given) > 1:
            raise OptionError(f"{' and '.join(given)} do not go together; choose one")
        for name in ("forced_bos_token_id", "forced_eos_token_id"):
            if given and getattr(self, name) is not None:
                raise OptionError(f"{name} would break {given[0]}; leave one of them out")

    @cached_property  # read for every token
    def eos_token_ids(self) -> tuple[int, ...]:
        """The ids that end a text."""
        return _as_tuple(self.eos_token_id)

    @cached_property
    def forced_eos_token_ids(self) -> tuple[int, ...]:
        """The ids one of which is the last where the length runs out."""
        return _as_tuple(self.forced_eos_token_id)

    @cached_property
    def stops(self) -> tuple[str, ...]:
        """The strings that end a text."""
        return _as_tuple(self.stop_strings)

    @cached_property
    def constraint(self) -> tuple[str, str] | None:
        """Which of `CONSTRAINTS` the text has to meet, and its text; None for none."""
        given = ((name, getattr(self, name)) for name in CONSTRAINTS)
        return next(((name, text) for name, text in given if text is not None), None)

    @classmethod
    def resolve(cls, defaults: Mapping[str, Any], given: Mapping[str, Any]) -> GenerationOptions:
        """Combine a folder's generation_config.json with a call's keyword arguments.

        Keys of `defaults` that are no options (versions, say) are passed over, and so are a null
        and a value out of range of an option that then says nothing: a temperature without draws.

        Raises:
            OptionError: `given` has an unknown option, or a value is out of range; the message says
                so where it is the folder's.
        """
        known = {field.name for field in dataclasses.fields(cls)}
        unknown = sorted(set(given) - known)
        if unknown:
            raise OptionError(
                f"unknown option {', '.join(unknown)}; there are {', '.join(sorted(known))}"
            )
        folder = {
            name: defaults[name]
            for name in known - {"logits_processor", *given}
            if defaults.get(name) is not None
        }
        folder = _readable(folder, {**folder, **given})
        try:
            return cls(**folder, **given)
        except OptionError as error:
            if _holds_alone(cls, given):  # then it is what the folder adds
                raise OptionError(f"the folder's {GENERATION_CONFIG}: {error}") from None
            raise

    def check_vocabulary(self, vocab_size: int) -> None:
        """Check that every token id is in the vocabulary.

        Raises:
            OptionError: one is not; the message names the option.
        """
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if value is None:
                continue
            for token_id in field.metadata["kind"].token_ids(value):
                if token_id >= vocab_size:
                    raise OptionError(
                        f"{field.name} has token id {token_id}, and the vocabulary has {vocab_size}"
                    )

    def start_token(self, what: str) -> int:
        """Return the token that an empty text starts from; `what` it is, for the error.

        Raises:
            OptionError: there is no bos_token_id.
        """
        if self.bos_token_id is None:
            raise OptionError(
                f"{what} needs a bos_token_id, and the folder's {GENERATION_CONFIG} names none "
                "that is in the vocabulary"
            )
        return self.bos_token_id

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
                f"raise it, the call's or the folder's in {GENERATION_CONFIG}, or use "
                "max_new_tokens"
            )
        return self.max_length - prompt_length


def _readable(folder: Mapping[str, Any], together: Mapping[str, Any]) -> dict[str, Any]:
    """Return a folder's values without those out of range that nothing reads.

    Args:
        folder: its values.
        together: these and the call's, which say whether tokens are drawn, and beams searched.

    Raises:
        OptionError: one is out of range and would be read; the message names the folder's file.
    """
    kept = {}
    for field in dataclasses.fields(OptionFields):
        if field.name not in folder:
            continue
        try:
            field.metadata["kind"].read(field.name, folder[field.name])
        except OptionError as error:
            drawn = together.get("do_sample", False) or not field.metadata["drawing"]
            searched = together.get("num_beams", 1) != 1 or field.name not in _OF_BEAMS
            if drawn and searched:
                raise OptionError(
                    f"the folder's {GENERATION_CONFIG}: {error}; mend it there, or give "
                    f"{field.name} with the call"
                ) from None
        else:
            kept[field.name] = folder[field.name]
    return kept


def _holds_alone(kind: type[GenerationOptions], given: Mapping[str, Any]) -> bool:
    try:
        kind(**given)
    except OptionError:
        return False
    return True


def _as_tuple(value: Any) -> tuple[Any, ...]:
    """Return one or several of something as a tuple."""
    if value is None:
        return ()
    return value if isinstance(value, tuple) else (value,)
