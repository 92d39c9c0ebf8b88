"""The options of a generation as keyword arguments, for type checkers and editors.

They read text alone, so the names and types of `GenerationOptions` stand here a second time; a test
holds the two equal.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, TypedDict


class OneTextOptionsDict(TypedDict, total=False):
    """Any option of one text: all but `num_return_sequences`; see `GenerationOptions`."""

    max_new_tokens: int | None
    max_length: int | None
    min_new_tokens: int | None
    min_length: int
    do_sample: bool
    temperature: float
    top_k: int
    top_p: float
    min_p: float | None
    typical_p: float
    xtc_probability: float
    xtc_threshold: float
    seed: int | None
    repetition_penalty: float
    encoder_repetition_penalty: float
    presence_penalty: float
    frequency_penalty: float
    logit_bias: Mapping[int, float]
    sequence_bias: Mapping[tuple[int, ...], float] | Sequence[Any]
    dry_multiplier: float
    dry_base: float
    dry_allowed_length: int
    dry_penalty_last_n: int
    dry_sequence_breakers: Sequence[str]
    no_repeat_ngram_size: int
    encoder_no_repeat_ngram_size: int
    bad_words_ids: Sequence[Sequence[int]]
    suppress_tokens: Sequence[int]
    forced_bos_token_id: int | None
    forced_eos_token_id: int | Sequence[int] | None
    exponential_decay_length_penalty: tuple[int, float] | None
    renormalize_logits: bool
    logits_processor: Sequence[Callable[..., Any]]
    json_schema: str | Mapping[str, Any] | None
    regex: str | None
    grammar: str | None
    eos_token_id: int | Sequence[int] | None
    bos_token_id: int | None
    add_special_tokens: bool
    stop_strings: str | Sequence[str]
    max_time: float | None
    num_beams: int
    length_penalty: float
    early_stopping: bool | Literal["never"]
    prompt_lookup_num_tokens: int | None
    num_assistant_tokens: int
    assistant_confidence_threshold: float
    logprobs: int | None
    context_overflow: Literal["stop", "reprefill"]
    keep: int


class GenerationOptionsDict(OneTextOptionsDict, total=False):
    """`**options: Unpack[GenerationOptionsDict]`: any of the options, see `GenerationOptions`."""

    num_return_sequences: int
