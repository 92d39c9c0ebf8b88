"""Options of a generation, under Hugging Face's names and with transformers' defaults."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from .. import validate
from ..errors import OptionError

DEFAULT_NEW_TOKENS = 20  # transformers' default when neither length is given


@dataclass(frozen=True)
class GenerationOptions:
    """How to generate.

    Args:
        max_new_tokens: most tokens to generate; takes precedence over `max_length`.
        max_length: most tokens, the prompt's included. Without both, 20 new tokens.
        min_new_tokens: no end of text before this many new tokens.
        do_sample: draw each token at random instead of taking the likeliest one.
        temperature: what logits are divided by before drawing; above 0.
        top_k: draw among this many likeliest tokens; 0 for all.
        top_p: draw among the likeliest tokens that together reach this probability; in (0, 1].
        min_p: draw among the tokens at least this fraction as likely as the likeliest; in [0, 1].
        typical_p: draw among the tokens whose information is closest to the expected one, as many
            as reach this probability; in (0, 1].
        seed: makes the draws repeatable; None for fresh ones every time.
        repetition_penalty: above 1 makes every token of the prompt and the text less likely.
        presence_penalty: subtracted from the logit of a generated token, as OpenAI's API does it;
            in [-2, 2].
        frequency_penalty: the same, for every time the token was generated; in [-2, 2].
        logit_bias: token id to a number in [-100, 100] that is added to its logit.
        no_repeat_ngram_size: no sequence of this many tokens comes twice; 0 for off.
        bad_words_ids: sequences of token ids that never come.
        suppress_tokens: token ids that never come.
        forced_eos_token_id: the last token when the length runs out, or several to choose from.
        eos_token_id: a generated token that ends the text, or several of them.
        bos_token_id: what an empty prompt starts from.
        stop_strings: strings that end the text and are cut from it.
        max_time: seconds after which no further token is begun.
        num_beams: beams of a beam search; 1 for none.
        length_penalty: the power of the length that a beam's score is divided by.
        early_stopping: True ends a beam search once `num_beams` texts are finished; False when a
            better one is unlikely; "never" only when none is possible.
        num_return_sequences: texts for each prompt.
        logprobs: how many of the likeliest tokens to report at every step with their
            log-probabilities, besides the chosen one; None for no report.
        context_overflow: "stop" at the context's end, or "reprefill": go on from the first `keep`
            tokens and the newest half of the context, computed afresh.
        keep: how many first tokens a reprefill keeps.

    Raises:
        OptionError: a value is out of range, or two do not go together; the message names them.
    """

    max_new_tokens: int | None = None
    max_length: int | None = None
    min_new_tokens: int | None = None
    do_sample: bool = False
    temperature: float = 1.0
    top_k: int = 50
    top_p: float = 1.0
    min_p: float | None = None
    typical_p: float = 1.0
    seed: int | None = None
    repetition_penalty: float = 1.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    logit_bias: Mapping[int, float] = dataclasses.field(default_factory=dict)
    no_repeat_ngram_size: int = 0
    bad_words_ids: Sequence[Sequence[int]] = ()
    suppress_tokens: Sequence[int] = ()
    forced_eos_token_id: int | Sequence[int] | None = None
    eos_token_id: int | Sequence[int] | None = None
    bos_token_id: int | None = None
    stop_strings: str | Sequence[str] = ()
    max_time: float | None = None
    num_beams: int = 1
    length_penalty: float = 1.0
    early_stopping: bool | str = False
    num_return_sequences: int = 1
    logprobs: int | None = None
    context_overflow: str = "stop"
    keep: int = 0

    def __post_init__(self) -> None:
        self._check_numbers()
        validate.one_of("do_sample", self.do_sample, (True, False))
        validate.one_of("early_stopping", self.early_stopping, (True, False, "never"))
        validate.one_of("context_overflow", self.context_overflow, ("stop", "reprefill"))
        validate.token_ids("eos_token_id", self.eos_token_ids)
        validate.token_ids("forced_eos_token_id", self.forced_eos_token_ids)
        validate.token_ids("suppress_tokens", self.suppress_tokens)
        validate.bias("logit_bias", self.logit_bias)
        validate.texts("stop_strings", self.stops)
        if not isinstance(self.bad_words_ids, Sequence) or not all(self.bad_words_ids):
            raise OptionError(
                "bad_words_ids should be a list of lists of token ids, none empty, "
                f"not {self.bad_words_ids!r}"
            )
        for word in self.bad_words_ids:
            validate.token_ids("bad_words_ids", word)
        self._check_combinations()

    def _check_numbers(self) -> None:
        for name in ("max_new_tokens", "max_length"):
            validate.whole(name, getattr(self, name), at_least=1, optional=True)
        for name in ("min_new_tokens", "seed", "bos_token_id", "logprobs"):
            validate.whole(name, getattr(self, name), at_least=0, optional=True)
        for name in ("top_k", "no_repeat_ngram_size", "keep"):
            validate.whole(name, getattr(self, name), at_least=0)
        for name in ("num_beams", "num_return_sequences"):
            validate.whole(name, getattr(self, name), at_least=1)
        if not validate.is_number(self.temperature) or self.temperature <= 0:
            raise OptionError(
                f"temperature should be above 0, not {self.temperature!r}; "
                "for the likeliest token every time use do_sample=False"
            )
        validate.number("top_p", self.top_p, above=0, at_most=1)
        validate.number("typical_p", self.typical_p, above=0, at_most=1)
        validate.number("min_p", self.min_p, at_least=0, at_most=1, optional=True)
        validate.number("repetition_penalty", self.repetition_penalty, above=0)
        validate.number("presence_penalty", self.presence_penalty, at_least=-2, at_most=2)
        validate.number("frequency_penalty", self.frequency_penalty, at_least=-2, at_most=2)
        validate.number("max_time", self.max_time, above=0, optional=True)
        validate.number("length_penalty", self.length_penalty, at_least=-10, at_most=10)

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
            if self.context_overflow != "stop":
                raise OptionError("context_overflow='reprefill' needs num_beams=1")
        elif returned > 1 and not self.do_sample:
            raise OptionError(
                f"num_return_sequences={returned} would give the same text {returned} times; "
                "use do_sample=True or num_beams"
            )

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

    @classmethod
    def resolve(cls, defaults: Mapping[str, Any], given: Mapping[str, Any]) -> GenerationOptions:
        """Combine a folder's generation_config.json with a call's keyword arguments.

        Keys of `defaults` that are no options (versions, say) are passed over, and so is a null.

        Raises:
            OptionError: `given` has an unknown option, or a value is out of range.
        """
        known = {field.name for field in dataclasses.fields(cls)}
        unknown = sorted(set(given) - known)
        if unknown:
            raise OptionError(
                f"unknown option {', '.join(unknown)}; there are {', '.join(sorted(known))}"
            )
        folder = {name: defaults[name] for name in known if defaults.get(name) is not None}
        return cls(**{**folder, **given})

    def check_vocabulary(self, vocab_size: int) -> None:
        """Check that every token id that shapes the logits is in the vocabulary.

        Raises:
            OptionError: one is not; the message names the option.
        """
        named = {
            "bad_words_ids": [token_id for word in self.bad_words_ids for token_id in word],
            "suppress_tokens": self.suppress_tokens,
            "forced_eos_token_id": self.forced_eos_token_ids,
            "logit_bias": tuple(self.logit_bias),
        }
        for name, token_ids in named.items():
            for token_id in token_ids:
                if token_id >= vocab_size:
                    raise OptionError(
                        f"{name} has token id {token_id}, and the vocabulary has {vocab_size}"
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


def _as_tuple(value: Any) -> tuple[Any, ...]:
    """Return one or several of something as a tuple; what is neither stays to be refused."""
    if value is None:
        return ()
    if isinstance(value, Sequence) and not isinstance(value, str):
        return tuple(value)
    return (value,)
