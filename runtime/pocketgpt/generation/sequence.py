"""One text in the making: its tokens, its draws, its text so far, and when it ends."""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ..text.stop_filter import StopFilter
from ..text.text_stream import TextStream
from ..text.tokenizer import Tokenizer
from .guessing.lookup import PromptLookup
from .guessing.record import Record
from .options import GenerationOptions
from .pipeline import Pipeline
from .processors import Logits, log_softmax
from .results import FinishReason, GenerationResult, Timings, TokenLogprobs
from .topk import top

Ids = NDArray[np.int64]


class TokenSequence:
    """A prompt and what has been generated after it.

    Attributes:
        index: its place among the results of a call.
        prompt_ids: what it continues, at least one token.
        token_ids: the new tokens.
        options: what holds for it.
        pipeline: what its options make of logits.
        random: its own draws; None where nothing is drawn.
        finish_reason: None while it goes on.
        reused_tokens: how many of the prompt's tokens were in the cache when it began.
        reprefills: how often the context overflowed and was computed afresh.
        score: what a beam search gave it.
        logprobs: one entry a new token, where `logprobs` was asked for.
        prompt_logprobs: one entry a token of the prompt but the first, where those are wanted.
        lookup: what guesses its tokens from what it said before, where it was told to.
        record: what came of its guesses, whoever made them.
    """

    width = 1  # slots of a decoder

    def __init__(
        self,
        tokenizer: Tokenizer,
        prompt_ids: Sequence[int],
        options: GenerationOptions,
        n_positions: int,
        pipeline: Pipeline,
        index: int = 0,
        sibling: int = 0,
        *,
        score_prompt: bool = False,
    ) -> None:
        """Start behind a prompt.

        Args:
            tokenizer: of the model.
            prompt_ids: at least one token.
            options: what holds for it.
            n_positions: the context.
            pipeline: what its options make of logits.
            index: its place among the results of a call.
            sibling: counts the texts returned for the same prompt.
            score_prompt: whether the log-probabilities of the prompt's own tokens are wanted, too;
                the text then runs even where no token may follow.
        """
        self.index = index
        self.prompt_ids = prompt_ids
        self.options = options
        self.pipeline = pipeline
        self.token_ids: list[int] = []
        self.finish_reason: FinishReason | None = None
        self.score: float | None = None
        self.reprefills = 0
        self.reused_tokens = 0
        self.budget = new_tokens(options, len(prompt_ids), n_positions)
        self.random = _random(options, sibling)
        guesses = options.prompt_lookup_num_tokens
        self.lookup = PromptLookup(prompt_ids, guesses) if guesses else None
        self.record = Record()
        self._ids = np.array([*prompt_ids], np.int64)
        self._characters = TextStream(tokenizer, prompt_ids)
        self._stop = StopFilter(options.stops)
        self._pieces: list[str] = []
        self.logprobs: list[TokenLogprobs] = []
        self.prompt_logprobs: list[TokenLogprobs] | None = [] if score_prompt else None
        self._started = self._first = self._last = self._seated = time.perf_counter()
        self._engine_first = self._engine_last = 0.0
        if self.budget < 1 and not score_prompt:
            self.finish("length")

    @property
    def ids(self) -> Ids:
        """All tokens, the prompt's included."""
        return self._ids[: len(self.prompt_ids) + len(self.token_ids)]

    @property
    def most_tokens(self) -> int:
        """How many tokens it may have in the end."""
        return len(self.prompt_ids) + max(0, self.budget)

    @property
    def tokens_left(self) -> int:
        """How many more tokens it may get."""
        return self.budget - len(self.token_ids)

    @property
    def text(self) -> str:
        """The text that is final."""
        return "".join(self._pieces)

    @property
    def out_of_time(self) -> bool:
        """Whether `max_time` has passed."""
        limit = self.options.max_time
        return limit is not None and time.perf_counter() - self._started > limit

    def seated(self) -> None:
        """Take note that it has a slot: until now it waited."""
        self._seated = time.perf_counter()

    def begin_clock(self, first: float, engine_seconds: float) -> None:
        """Say when the first token came, for a text whose tokens are added after the work."""
        self._first, self._engine_first = first, engine_seconds

    def record_logprobs(self, logits: Logits, token_id: int) -> None:
        """Note what the model alone thinks of the token chosen; `logits` is `[vocab_size]`."""
        if self.options.logprobs is not None:
            self.logprobs.append(_logprobs(logits, token_id, self.options.logprobs))

    def record_prompt(self, logits: Logits, start: int) -> None:
        """Note what the model thinks of the prompt's tokens behind those from `start` on.

        Args:
            logits: `[tokens, vocab_size]`, after each of as many tokens of the prompt.
            start: the place of the first of them.
        """
        assert self.prompt_logprobs is not None
        top = self.options.logprobs or 0
        for place, row in enumerate(logits, start + 1):
            if place < len(self.prompt_ids):
                self.prompt_logprobs.append(_logprobs(row, self.prompt_ids[place], top))
        if start + len(logits) == len(self.prompt_ids) and self.budget < 1:
            self.finish("length")

    def add(self, token_id: int, engine_seconds: float = 0.0) -> str:
        """Append a token that the pipeline has accepted; return the text that is final by it.

        Args:
            token_id: the token.
            engine_seconds: how long ONNX Runtime has run so far.
        """
        self._last, self._engine_last = time.perf_counter(), engine_seconds
        if not self.token_ids and self._first == self._started:
            self.begin_clock(self._last, engine_seconds)
        self._append(token_id)
        piece = self._stop.push(self._characters.push(token_id))
        if piece:
            self._pieces.append(piece)
        if token_id in self.options.eos_token_ids:
            return piece + self.finish("eos")
        if self._stop.found or self.pipeline.complete:
            return piece + self.finish("stop")
        if len(self.token_ids) >= self.budget:
            return piece + self.finish("length")
        if self.options.max_time is not None and self.out_of_time:
            return piece + self.finish("time")
        return piece

    def finish(self, reason: FinishReason) -> str:
        """End the text; return what of it was held back."""
        self.finish_reason = reason
        piece = self._stop.push(self._characters.finish()) + self._stop.finish()
        if piece:
            self._pieces.append(piece)
        return piece

    def cancel(self) -> list[Piece]:
        """End the text as cancelled, if it goes on; return what was held back."""
        piece = self.finish("cancelled") if self.finish_reason is None else ""
        return [(self, piece)] if piece else []

    def abandon(self) -> None:
        """End it as it is, after an error; nothing of it is wanted any more."""
        self.finish_reason = self.finish_reason or "cancelled"

    def result(self) -> GenerationResult:
        """Return what was made; a text that had not ended is cancelled by it."""
        if self.finish_reason is None:
            self.finish("cancelled")
        assert self.finish_reason is not None
        timings = Timings(
            prompt_tokens=len(self.prompt_ids),
            new_tokens=len(self.token_ids),
            time_to_first_token=self._first - self._started,
            decode_seconds=self._last - self._first,
            reused_tokens=self.reused_tokens,
            engine_seconds=self._engine_last - self._engine_first,
            guessed_tokens=self.record.guessed,
            accepted_tokens=self.record.accepted,
            waiting_seconds=self._seated - self._started,
        )
        return GenerationResult(
            text=self.text,
            token_ids=self.token_ids,
            finish_reason=self.finish_reason,
            timings=timings,
            logprobs=None if self.options.logprobs is None else self.logprobs,
            score=self.score,
            reprefills=self.reprefills,
        )

    def _append(self, token_id: int) -> None:
        if self.lookup is not None:
            self.lookup.accept(token_id)
        length = len(self.prompt_ids) + len(self.token_ids)
        if length == len(self._ids):
            self._ids = np.concatenate([self._ids, np.zeros_like(self._ids)])
        self._ids[length] = token_id
        self.token_ids.append(token_id)


Piece = tuple[TokenSequence, str]
"""A text, and what has become final of it."""


def new_tokens(options: GenerationOptions, prompt_length: int, n_positions: int) -> int:
    """Return how many tokens may follow a prompt, in a context that may go on or stop."""
    budget = options.new_token_budget(prompt_length)
    if options.context_overflow == "stop":
        return min(budget, n_positions - prompt_length)
    return budget


def _random(options: GenerationOptions, sibling: int) -> np.random.Generator | None:
    if not options.do_sample:
        return None
    return np.random.default_rng(None if options.seed is None else [options.seed, sibling])


def _logprobs(logits: Logits, token_id: int, count: int) -> TokenLogprobs:
    log_probabilities = log_softmax(logits)
    best = top(log_probabilities, min(count, len(log_probabilities))).tolist() if count else []
    likeliest = [(i, float(log_probabilities[i])) for i in best]
    return TokenLogprobs(token_id, float(log_probabilities[token_id]), likeliest)
