"""One text in the making: its tokens, its draws, its text so far, and when it ends."""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ..text.stop_filter import StopFilter
from ..text.tokenizer import TextStream, Tokenizer
from .options import GenerationOptions
from .pipeline import Pipeline
from .processors import Logits, log_softmax
from .results import FinishReason, GenerationResult, Timings, TokenLogprobs
from .topk import top
from .vocabulary import Vocabulary


class Row:
    """A prompt and what has been generated after it; one row of a batch.

    Attributes:
        index: its place among the results of a call.
        prompt_ids: what it continues, at least one token.
        token_ids: the new tokens.
        options: what holds for it.
        finish_reason: None while it goes on.
        reused_tokens: how many of the prompt's tokens were in the cache when it began.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        prompt_ids: Sequence[int],
        options: GenerationOptions,
        n_positions: int,
        index: int = 0,
        sequence: int = 0,
        vocabulary: Vocabulary | None = None,
    ) -> None:
        """Start behind a prompt; `sequence` counts the texts returned for the same one."""
        self.index = index
        self.prompt_ids = prompt_ids
        self.options = options
        self.token_ids: list[int] = []
        self.finish_reason: FinishReason | None = None
        self.score: float | None = None
        self.reprefills = 0
        self.reused_tokens = 0
        self.budget = options.new_token_budget(len(prompt_ids))
        if options.context_overflow == "stop":
            self.budget = min(self.budget, n_positions - len(prompt_ids))
        self.pipeline = Pipeline.build(options, prompt_ids, self.budget, vocabulary=vocabulary)
        self.random: np.random.Generator | None = None
        if options.do_sample:
            seed = None if options.seed is None else [options.seed, sequence]
            self.random = np.random.default_rng(seed)
        self._ids = np.array([*prompt_ids], np.int64)
        self._characters = TextStream(tokenizer)
        self._stop = StopFilter(options.stops)
        self._pieces: list[str] = []
        self._logprobs: list[TokenLogprobs] = []
        self._started = self._first = self._last = time.perf_counter()
        if self.budget < 1:
            self.finish("length")

    @property
    def ids(self) -> NDArray[np.int64]:
        """All tokens, the prompt's included."""
        return self._ids[: len(self.prompt_ids) + len(self.token_ids)]

    @property
    def text(self) -> str:
        """The text that is final."""
        return "".join(self._pieces)

    @property
    def out_of_time(self) -> bool:
        """Whether `max_time` has passed."""
        limit = self.options.max_time
        return limit is not None and time.perf_counter() - self._started > limit

    def report(self, logits: Logits, token_id: int) -> None:
        """Keep what `logprobs` asks for of a token chosen for logits `[vocab_size]`."""
        if self.options.logprobs is not None:
            self._logprobs.append(_logprobs(logits, token_id, self.options.logprobs))

    def add(self, token_id: int) -> str:
        """Append a token; return the text that is final by it, maybe none."""
        self.pipeline.accept(token_id)
        self._last = time.perf_counter()
        if not self.token_ids:
            self._first = self._last
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
        return piece

    def finish(self, reason: FinishReason) -> str:
        """End the text; return what of it was held back."""
        self.finish_reason = reason
        piece = self._stop.push(self._characters.finish()) + self._stop.finish()
        if piece:
            self._pieces.append(piece)
        return piece

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
        )
        return GenerationResult(
            text=self.text,
            token_ids=self.token_ids,
            finish_reason=self.finish_reason,
            timings=timings,
            logprobs=None if self.options.logprobs is None else self._logprobs,
            score=self.score,
            reprefills=self.reprefills,
        )

    def _append(self, token_id: int) -> None:
        length = len(self.prompt_ids) + len(self.token_ids)
        if length == len(self._ids):
            self._ids = np.concatenate([self._ids, np.zeros_like(self._ids)])
        self._ids[length] = token_id
        self.token_ids.append(token_id)


def _logprobs(logits: NDArray[np.float32], token_id: int, count: int) -> TokenLogprobs:
    log_probabilities = log_softmax(logits)
    best = top(log_probabilities, min(count, len(log_probabilities))).tolist() if count else []
    likeliest = [(i, float(log_probabilities[i])) for i in best]
    return TokenLogprobs(token_id, float(log_probabilities[token_id]), likeliest)
