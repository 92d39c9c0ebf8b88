"""All options of a generation, each declared once: its default, what it takes, what it does.

From these declarations come the checks (options.py), the command line's flags
(cli/generation_flags.py) and docs/options.md (options_page.py); option_types.py is held to them by
a test.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from .option_kinds import (
    Callables,
    Choice,
    Decay,
    FrozenMapping,
    Json,
    Kind,
    LongText,
    Number,
    SequenceBias,
    Switch,
    Text,
    Texts,
    TokenBias,
    TokenId,
    TokenIds,
    TokenSequences,
    Whole,
)


def option(
    kind: Kind, default: Any, description: str, *, flag: bool = True, drawing: bool = False
) -> Any:
    """Declare an option.

    Args:
        kind: what values it takes. Where the default is None or empty, None is the default, too.
        default: its value where nothing is said.
        description: what it does; a sentence or two.
        flag: whether the command line has it.
        drawing: whether it changes nothing where nothing is drawn.
    """
    metadata = {"kind": kind, "help": description, "flag": flag, "drawing": drawing}
    return dataclasses.field(default=default, metadata=metadata)


@dataclass(frozen=True)
class OptionFields:
    """The options' names, types, defaults and descriptions; `GenerationOptions` checks them."""

    max_new_tokens: int | None = option(
        Whole(1), None, "Most tokens to generate; goes before max_length. Without both, 20."
    )
    max_length: int | None = option(Whole(1), None, "Most tokens, the prompt's included.")
    min_new_tokens: int | None = option(Whole(), None, "No end of text before so many new tokens.")
    min_length: int = option(
        Whole(), 0, "No end of text before so many tokens, the prompt's included."
    )
    do_sample: bool = option(
        Switch(), False, "Draw each token at random instead of taking the likeliest one."
    )
    temperature: float = option(
        Number(above=0, hint="; for the likeliest token every time use do_sample=False"),
        1.0,
        "What logits are divided by before drawing.",
        drawing=True,
    )
    top_k: int = option(
        Whole(), 50, "Draw among this many likeliest tokens; 0 for all.", drawing=True
    )
    top_p: float = option(
        Number(above=0, at_most=1),
        1.0,
        "Draw among the likeliest tokens that together reach this probability.",
        drawing=True,
    )
    min_p: float | None = option(
        Number(at_least=0, at_most=1),
        None,
        "Draw among the tokens at least this fraction as likely as the likeliest.",
        drawing=True,
    )
    typical_p: float = option(
        Number(above=0, at_most=1),
        1.0,
        "Draw among the tokens whose information is closest to the expected one, as many as "
        "reach this probability.",
        drawing=True,
    )
    xtc_probability: float = option(
        Number(at_least=0, at_most=1),
        0.0,
        "How often the likeliest choices are excluded (XTC): all tokens that reach xtc_threshold "
        "but the last of them.",
        drawing=True,
    )
    xtc_threshold: float = option(
        Number(above=0, at_most=1),
        0.1,
        "Probability from which on xtc_probability excludes a token; above 0.5 none can be.",
        drawing=True,
    )
    seed: int | None = option(
        Whole(), None, "Makes the draws repeatable; fresh ones every time without.", drawing=True
    )
    repetition_penalty: float = option(
        Number(above=0), 1.0, "Above 1 makes every token of the prompt and the text less likely."
    )
    encoder_repetition_penalty: float = option(
        Number(above=0), 1.0, "Above 1 makes every token of the prompt more likely."
    )
    presence_penalty: float = option(
        Number(at_least=-2, at_most=2),
        0.0,
        "Subtracted from the logit of a generated token, as OpenAI's API does it.",
    )
    frequency_penalty: float = option(
        Number(at_least=-2, at_most=2), 0.0, "The same, for every time the token was generated."
    )
    logit_bias: Mapping[int, float] = option(
        TokenBias(), FrozenMapping(), "Added to these tokens' logits, as OpenAI's API does it."
    )
    sequence_bias: Mapping[tuple[int, ...], float] | Sequence[Any] = option(
        SequenceBias(),
        FrozenMapping(),
        "Added to the logit of a sequence's last token where the text ends with the others.",
    )
    dry_multiplier: float = option(
        Number(at_least=0),
        0.0,
        "DRY: a token that would go on repeating n tokens of the text, n at least "
        "dry_allowed_length, loses dry_multiplier * dry_base ** (n - dry_allowed_length) of its "
        "logit; 0 for off.",
    )
    dry_base: float = option(Number(at_least=1), 1.75, "See dry_multiplier.")
    dry_allowed_length: int = option(Whole(), 2, "See dry_multiplier.")
    dry_penalty_last_n: int = option(
        Whole(-1), -1, "How many newest tokens DRY looks at; -1 for all, 0 for none."
    )
    dry_sequence_breakers: Sequence[str] = option(
        Texts(), ("\n", ":", '"', "*"), "Strings that no repetition DRY sees goes across."
    )
    no_repeat_ngram_size: int = option(
        Whole(), 0, "No sequence of this many tokens comes twice; 0 for off."
    )
    encoder_no_repeat_ngram_size: int = option(
        Whole(), 0, "No sequence of this many tokens comes that the prompt has; 0 for off."
    )
    bad_words_ids: Sequence[Sequence[int]] = option(
        TokenSequences(), (), "Sequences of token ids that never come."
    )
    suppress_tokens: Sequence[int] = option(TokenIds(), (), "Token ids that never come.")
    forced_bos_token_id: int | None = option(
        TokenId(), None, "The token after a prompt of one token."
    )
    forced_eos_token_id: int | Sequence[int] | None = option(
        TokenIds(single=True),
        None,
        "The last token when the length runs out, or several to choose from.",
    )
    exponential_decay_length_penalty: tuple[int, float] | None = option(
        Decay(),
        None,
        "(start, factor): after this many new tokens the end of text becomes likelier by the "
        "factor with every token.",
    )
    renormalize_logits: bool = option(
        Switch(), False, "Make what was changed a distribution again, before beams are compared."
    )
    logits_processor: Sequence[Callable[..., Any]] = option(
        Callables(),
        (),
        "Functions (ids, logits) -> logits of your own, called at every step for every text; "
        "see below.",
        flag=False,
    )
    json_schema: str | Mapping[str, Any] | None = option(
        Json(), None, "The text is JSON that this schema allows; a dictionary, or JSON text."
    )
    regex: str | None = option(
        Text(), None, "The text is what this regular expression matches as a whole."
    )
    grammar: str | None = option(
        LongText(), None, "The text is what this grammar produces, in llguidance's dialect of Lark."
    )
    eos_token_id: int | Sequence[int] | None = option(
        TokenIds(single=True), None, "A generated token that ends the text, or several of them."
    )
    bos_token_id: int | None = option(
        TokenId(), None, "What an empty prompt starts from.", flag=False
    )
    add_special_tokens: bool = option(
        Switch(),
        True,
        "Put around a prompt what the tokenizer puts around a text: nothing for GPT-2's own, [CLS] "
        "and [SEP] for BERT's.",
    )
    stop_strings: str | Sequence[str] = option(
        Texts(single=True), (), "Strings that end the text and are cut from it."
    )
    max_time: float | None = option(
        Number(above=0), None, "Seconds after which no further token is begun."
    )
    num_beams: int = option(Whole(1), 1, "Beams of a beam search; 1 for none.")
    length_penalty: float = option(
        Number(at_least=-10, at_most=10),
        1.0,
        "The power of the length that a beam's score is divided by.",
    )
    early_stopping: bool | Literal["never"] = option(
        Choice((True, False, "never")),
        False,
        "True ends a beam search once num_beams texts are finished; False when a better one is "
        'unlikely; "never" only when none is possible.',
    )
    prompt_lookup_num_tokens: int | None = option(
        Whole(1),
        None,
        "Most tokens to guess ahead from what the text said before, checked in one pass: faster "
        "where it repeats itself. The same tokens, but where a quantized variant's likeliest two "
        "nearly tie, which may then fall otherwise from run to run. Goes before an assistant.",
    )
    num_assistant_tokens: int = option(
        Whole(0),
        20,
        "Most tokens that the assistant guesses ahead, where one was loaded; 0 for none.",
    )
    assistant_confidence_threshold: float = option(
        Number(at_least=0, at_most=1),
        0.4,
        "The assistant guesses no further behind a token that it finds less likely.",
    )
    num_return_sequences: int = option(Whole(1), 1, "Texts for each prompt.")
    logprobs: int | None = option(
        Whole(),
        None,
        "How many of the likeliest tokens to report at every step with their log-probabilities, "
        "besides the chosen one.",
    )
    context_overflow: Literal["stop", "reprefill"] = option(
        Choice(("stop", "reprefill")),
        "stop",
        '"stop" at the context\'s end, or "reprefill": go on from the first keep tokens and the '
        "newest half of the context, computed afresh.",
    )
    keep: int = option(Whole(), 0, "How many first tokens a reprefill keeps.")
