"""From logits to the next token: every rule the options ask for, in transformers' order.

The order of `_get_logits_processor` in transformers' `generation/utils.py`, the same for greedy
decoding, drawing and beams. What transformers lacks stands where it cannot bring back a token that
is ruled out: OpenAI's penalties and biases and DRY after the repetition penalty, a grammar last.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import OptionError, PocketGPTError
from .options import GenerationOptions
from .processors.bad_words import BadWords
from .processors.base import Ids, Logits, Processor, log_softmax
from .processors.bias import SequenceBias, TokenBias
from .processors.constraint import Constraint
from .processors.custom import CustomProcessors
from .processors.dry import Dry
from .processors.lengths import LengthDecay, MinNewTokens
from .processors.ngrams import NoRepeatNgrams
from .processors.repetition import PromptRepetitionPenalty, RepetitionPenalty
from .processors.tokens import ForceTokens, SuppressTokens
from .processors.use_penalty import UsePenalty
from .sampler import Sampler, check_best
from .vocabulary import Vocabulary


class Pipeline:
    """What shapes one text's tokens, and what it has to remember of the text.

    Attributes:
        plain: logits are never changed, so that many texts can be looked at at once.
        constrained: the text may be complete before anything else ends it.
    """

    def __init__(
        self,
        processors: Sequence[Processor],
        constraint: Constraint | None = None,
        sampler: Sampler | None = None,
        *,
        renormalize: bool = False,
    ) -> None:
        """Use `build` instead."""
        self._processors = processors
        self._constraint = constraint
        self._sampler = sampler
        self._renormalize = renormalize
        self._scratch: Logits | None = None
        self.plain = not processors
        self.constrained = constraint is not None

    @classmethod
    def build(
        cls,
        options: GenerationOptions,
        prompt_ids: Sequence[int],
        budget: int,
        *,
        vocabulary: Vocabulary | None = None,
        processors: Sequence[Callable[..., Any]] = (),
    ) -> Pipeline:
        """Return the pipeline of a text behind a prompt.

        Args:
            options: what to apply.
            prompt_ids: what the text continues.
            budget: most new tokens.
            vocabulary: what a constraint and DRY need.
            processors: functions of ids and logits, called after those of the options.

        Raises:
            OptionError: a constraint cannot be followed.
            MissingExtraError: a constraint's library is not installed.
        """
        listed = list(_penalties(options, prompt_ids, vocabulary))
        listed += _rules(options, prompt_ids, budget)
        if functions := (*options.logits_processor, *processors):
            listed.append(CustomProcessors(functions, prompt_ids))
        constraint = None
        if options.constraint is not None:
            constraint = _needed(vocabulary, options.constraint[0]).constraint(options)
        if constraint is not None:
            listed.append(constraint)
        sampler = Sampler(options) if options.do_sample else None
        return cls(listed, constraint, sampler, renormalize=options.renormalize_logits)

    @property
    def complete(self) -> bool:
        """Whether the text is what a constraint asks for and nothing can follow."""
        return self._constraint is not None and self._constraint.complete

    def constrain(self, logits: Logits) -> Logits:
        """Apply what holds for greedy decoding and for drawing to logits `[vocab]`, in place.

        Raises:
            OptionError: one of the user's functions gives no logits.
        """
        for processor in self._processors:
            processor.process(logits)
        return logits

    def warp(self, scores: Logits) -> Logits:
        """Return a beam's scores `[vocab]` after `constrain` with what is left to do.

        What narrows a draw, where there is one, and `renormalize_logits`.
        """
        if self._sampler is not None:
            scores = self._sampler.warp(scores)
        return log_softmax(scores) if self._renormalize else scores

    def choose(self, logits: Logits, random: np.random.Generator | None) -> int:
        """Return the next token for logits `[vocab]`, which stay as they are; see `choose_tokens`.

        Raises:
            OptionError: the options rule out every token, or a user's function gives no logits.
        """
        if not self.plain:
            if self._scratch is None or len(self._scratch) != len(logits):
                self._scratch = np.empty(len(logits), np.float32)
            np.copyto(self._scratch, logits)
            logits = self.constrain(self._scratch)
        if self._sampler is not None:
            assert random is not None
            return self._sampler.draw(logits, random)
        best = int(logits.argmax())
        check_best(logits[best])
        return best

    @property
    def draws(self) -> bool:
        """Whether tokens are drawn at random."""
        return self._sampler is not None

    def accept(self, token_id: int) -> None:
        """Take note of the text's next token."""
        for processor in self._processors:
            processor.accept(token_id)

    def fork(self) -> Pipeline:
        """Return a pipeline in the same state that goes on by itself."""
        twins = [processor.fork() for processor in self._processors]
        constraint = next((twin for twin in twins if isinstance(twin, Constraint)), None)
        return Pipeline(twins, constraint, self._sampler, renormalize=self._renormalize)


def choose_tokens(
    pipelines: Sequence[Pipeline],
    logits: NDArray[np.float32],
    draws: Sequence[np.random.Generator | None],
    failed: dict[int, PocketGPTError] | None = None,
) -> Ids:
    """Return the next token of each of several texts.

    Args:
        pipelines: one a row.
        logits: `[rows, vocab]`; left as they are.
        draws: each row's generator; None where nothing is drawn.
        failed: gets the errors of rows by their places; without it the first one is raised.

    Raises:
        OptionError: a row's options rule out every token.
        InferenceError: a row's logits are no numbers.
    """
    if all(pipeline.plain and not pipeline.draws for pipeline in pipelines):
        chosen: Ids = logits.argmax(axis=-1)
        best = logits[np.arange(len(logits)), chosen]
        if failed is None or np.isfinite(best).all():
            check_best(best)
            return chosen
    chosen = np.zeros(len(logits), np.int64)
    for place, (pipeline, random) in enumerate(zip(pipelines, draws, strict=True)):
        try:
            chosen[place] = pipeline.choose(logits[place], random)
        except PocketGPTError as error:
            if failed is None:
                raise
            failed[place] = error
    return chosen


def _penalties(
    options: GenerationOptions, prompt_ids: Sequence[int], vocabulary: Vocabulary | None
) -> Iterator[Processor]:
    """Yield what makes tokens more or less likely."""
    if options.sequence_bias:
        yield SequenceBias(dict(options.sequence_bias), prompt_ids)
    if options.encoder_repetition_penalty != 1.0:
        yield PromptRepetitionPenalty(prompt_ids, options.encoder_repetition_penalty)
    if options.repetition_penalty != 1.0:
        yield RepetitionPenalty(prompt_ids, options.repetition_penalty)
    if options.presence_penalty or options.frequency_penalty:
        yield UsePenalty(options.presence_penalty, options.frequency_penalty)
    if options.logit_bias:
        yield TokenBias(options.logit_bias)
    if options.dry_multiplier and options.dry_penalty_last_n:
        known = _needed(vocabulary, "dry_multiplier")
        yield Dry(
            options.dry_multiplier,
            options.dry_base,
            options.dry_allowed_length,
            options.dry_penalty_last_n,
            known.breakers(options.dry_sequence_breakers),
            prompt_ids,
        )


def _rules(
    options: GenerationOptions, prompt_ids: Sequence[int], budget: int
) -> Iterator[Processor]:
    """Yield what rules tokens out, or makes the end of text likelier."""
    eos = options.eos_token_ids
    if options.no_repeat_ngram_size:
        yield NoRepeatNgrams(options.no_repeat_ngram_size, prompt_ids)
    if size := options.encoder_no_repeat_ngram_size:
        yield NoRepeatNgrams(size, prompt_ids, prompt_only=True)
    if options.bad_words_ids:
        yield BadWords(options.bad_words_ids, eos, prompt_ids)
    if eos and options.min_length > len(prompt_ids):
        yield MinNewTokens(options.min_length - len(prompt_ids), eos)
    if eos and options.min_new_tokens:
        yield MinNewTokens(options.min_new_tokens, eos)
    if options.forced_bos_token_id is not None and len(prompt_ids) == 1:
        yield ForceTokens([options.forced_bos_token_id], 0)
    if options.forced_eos_token_ids:
        yield ForceTokens(options.forced_eos_token_ids, budget - 1)
    if eos and options.exponential_decay_length_penalty is not None:
        yield LengthDecay(*options.exponential_decay_length_penalty, eos)
    if options.suppress_tokens:
        yield SuppressTokens(options.suppress_tokens)


def _needed(vocabulary: Vocabulary | None, option: str) -> Vocabulary:
    if vocabulary is None:
        raise OptionError(f"{option} needs the model's vocabulary, and there is none")
    return vocabulary
