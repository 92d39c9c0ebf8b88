"""The next token's distribution: every processor that the options ask for, in transformers' order.

The order of `_get_logits_processor` in transformers' `generation/utils.py`; what OpenAI's API adds
comes after the repetition penalty, so that it never brings back a token that is ruled out.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ..errors import OptionError
from .constraints import ban_repeated_ngrams, ban_tokens, ban_words, force_tokens
from .options import GenerationOptions
from .penalties import Ids, add_bias, penalize_repetition, penalize_use
from .processors import Logits, apply_temperature, keep_min_p, keep_top_k, keep_top_p, keep_typical
from .topk import largest, leading


def constrain(
    logits: Logits, ids: Ids, prompt_length: int, budget: int, options: GenerationOptions
) -> Logits:
    """Apply penalties and constraints, which hold for greedy decoding and for drawing.

    Args:
        logits: `[batch_size, vocab]`; left as they are.
        ids: `[batch_size, length]`, the rows' tokens so far.
        prompt_length: how many of them are the prompt's.
        budget: most new tokens.
        options: what to apply.
    """
    made = ids.shape[-1] - prompt_length
    if options.repetition_penalty != 1.0:
        logits = penalize_repetition(logits, ids, options.repetition_penalty)
    if options.presence_penalty or options.frequency_penalty:
        presence, frequency = options.presence_penalty, options.frequency_penalty
        logits = penalize_use(logits, ids[:, prompt_length:], presence, frequency)
    if options.logit_bias:
        logits = add_bias(logits, options.logit_bias)
    if options.no_repeat_ngram_size:
        logits = ban_repeated_ngrams(logits, ids, options.no_repeat_ngram_size)
    if options.bad_words_ids:
        logits = ban_words(logits, ids, options.bad_words_ids, options.eos_token_ids)
    if options.min_new_tokens and made < options.min_new_tokens:
        logits = ban_tokens(logits, options.eos_token_ids)
    if options.forced_eos_token_id is not None and made == budget - 1:
        logits = force_tokens(logits, options.forced_eos_token_ids)
    if options.suppress_tokens:
        logits = ban_tokens(logits, options.suppress_tokens)
    return logits


def warp(logits: Logits, options: GenerationOptions) -> Logits:
    """Apply what only drawing asks for, to `[batch_size, vocab]` logits."""
    # A beam has to go on where the likeliest tokens all end the text.
    keep = max(1, len(options.eos_token_ids)) + 1 if options.num_beams > 1 else 1
    if options.temperature != 1.0:
        logits = apply_temperature(logits, options.temperature)
    if options.top_k:
        logits = keep_top_k(logits, options.top_k, keep)
    return _narrow(logits, options, keep)


def _narrow(logits: Logits, options: GenerationOptions, keep: int) -> Logits:
    """Apply what comes after `top_k`."""
    if options.top_p < 1.0:
        logits = keep_top_p(logits, options.top_p, keep)
    if options.min_p is not None:
        logits = keep_min_p(logits, options.min_p, keep)
    if options.typical_p < 1.0:
        logits = keep_typical(logits, options.typical_p, keep)
    return logits


def choose(logits: Logits, options: GenerationOptions, random: np.random.Generator) -> int:
    """Return the next token for logits `[1, vocab]`: the likeliest, or one drawn.

    Raises:
        OptionError: the options rule out every token.
    """
    if options.do_sample:
        return _draw(logits, options, random)
    best = int(logits[0].argmax())
    if logits[0, best] == -np.inf:
        raise nothing_left()
    return best


def _draw(logits: Logits, options: GenerationOptions, random: np.random.Generator) -> int:
    """Draw a token from what `warp` makes of `[1, vocab]` logits.

    Where `top_k` leaves a few, what comes after it is done on those alone.
    """
    if options.temperature != 1.0:
        logits = apply_temperature(logits, options.temperature)
    tokens = None
    if 0 < options.top_k < logits.shape[-1]:
        tokens = largest(logits[0], options.top_k)
        logits = logits[:, tokens]
    highest = logits.max()  # any number near it keeps exp from overflowing
    if highest == -np.inf:
        raise nothing_left()
    narrowed = _narrow(logits, options, 1)[0]
    drawn = leading(np.exp(narrowed - highest), random.random())
    return drawn if tokens is None else int(tokens[drawn])


def nothing_left() -> OptionError:
    """Return the error of options that rule out every token."""
    return OptionError(
        "the options rule out every token of the vocabulary; see suppress_tokens, "
        "bad_words_ids, no_repeat_ngram_size and min_new_tokens"
    )


class Pipeline:
    """Interim."""

    def __init__(self, options: GenerationOptions, prompt_ids: Sequence[int], budget: int) -> None:
        self._options, self._budget, self._prompt = options, budget, len(prompt_ids)
        self._ids = list(prompt_ids)

    @classmethod
    def build(cls, options: GenerationOptions, prompt_ids: Sequence[int], budget: int) -> Pipeline:
        return cls(options, prompt_ids, budget)

    def constrain(self, logits: Logits) -> Logits:
        ids = np.array([self._ids], np.int64)
        row: Logits = constrain(logits[None], ids, self._prompt, self._budget, self._options)[0]
        return row

    def accept(self, token_id: int) -> None:
        self._ids.append(token_id)

    def fork(self) -> Pipeline:
        twin = Pipeline(self._options, self._ids[: self._prompt], self._budget)
        twin._ids = list(self._ids)
        return twin

    def warp(self, scores: Logits) -> Logits:
        row: Logits = warp(scores[None], self._options)[0]
        return row


def choose_tokens(
    pipelines: Sequence[Pipeline],
    logits: Logits,
    draws: Sequence[np.random.Generator | None],
) -> NDArray[np.int64]:
    return np.array(
        [
            choose(p.constrain(row.copy())[None], p._options, draw)  # type: ignore[arg-type]
            for p, row, draw in zip(pipelines, logits, draws, strict=True)
        ]
    )
