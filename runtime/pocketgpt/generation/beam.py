"""Beam search and beam sampling, after `_beam_search` in transformers' `generation/utils.py`.

Scores are float32 and unfinished texts stand in as very bad ones, both as there, so that the same
texts win. The cache is reordered differently: see `_Rows`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from ..engine.decoder import check_largest
from ..text.tokenizer import Tokenizer
from .options import GenerationOptions
from .processors import Logits, log_softmax
from .results import FinishReason
from .sampler import nothing_left
from .sequence import Piece, TokenSequence
from .slots import Ids
from .topk import top

Scores = NDArray[np.float32]
CopyRow = Callable[[int, int, int], None]
"""(source, target, start): a row's cache becomes another's, which has `start` tokens of it."""

_BAD = np.float32(-1e9)


class BeamSearch:
    """A search for the best texts of one prompt: a job of a scheduler, a row a beam.

    Attributes:
        texts: what to return, filled with the best ones at the end, best first.
        prompt_ids: what they continue.
        width: beams.
        finish_reason: None while it goes on.
    """

    def __init__(self, texts: list[TokenSequence], tokenizer: Tokenizer) -> None:
        """Prepare for fresh texts, all of one prompt and one set of options."""
        self.texts = texts
        self.prompt_ids = texts[0].prompt_ids
        self.width = texts[0].options.num_beams
        self.finish_reason: FinishReason | None = texts[0].finish_reason
        self._search = _Search(texts[0], tokenizer)
        self._rows = _Rows(self.width, len(self.prompt_ids))
        self._first = self._engine_first = self._engine_last = 0.0

    @property
    def most_tokens(self) -> int:
        """How many tokens a text may have in the end."""
        return self.texts[0].most_tokens

    @property
    def ids(self) -> Ids:
        """The tokens that all rows have in common from the first on: the prompt's."""
        return self.texts[0].ids[: len(self.prompt_ids)]

    def advance(self, logits: Logits, copy_row: CopyRow, engine_seconds: float) -> list[int] | None:
        """Take the logits `[width, vocab_size]` after each row; return the rows' next tokens.

        None at the end: then `texts` are filled. `engine_seconds` is how long ONNX Runtime has run.
        """
        self._engine_last = engine_seconds
        if not self._first:
            self._first, self._engine_first = time.perf_counter(), engine_seconds
        out_of_time = self.texts[0].out_of_time
        if not self._search.advance(logits[self._rows.of_beam], out_of_time):
            self._fill("time")
            return None
        self._rows.follow(self._search.parents, copy_row)
        tokens = np.empty(self.width, np.int64)
        tokens[self._rows.of_beam] = self._search.ids[:, -1]
        return tokens.tolist()

    def seated(self) -> None:
        """Take note that it has its slots: until now it waited."""
        for text in self.texts:
            text.seated()

    def abandon(self) -> None:
        """End it as it is, after an error; nothing of it is wanted any more."""
        self.finish_reason = self.finish_reason or "cancelled"
        for text in self.texts:
            text.abandon()

    def cancel(self) -> list[Piece]:
        """End the search; return the best texts so far."""
        if self._first:
            self._search.give_up()
            self._fill("cancelled")
        self.finish_reason = "cancelled"
        for text in self.texts:
            text.cancel()
        return [(text, text.text) for text in self.texts if text.text]

    def _fill(self, reason: FinishReason) -> None:
        for text, score, token_ids in zip(
            self.texts, self._search.scores, self._search.texts, strict=False
        ):
            text.score = float(score)
            text.begin_clock(self._first, self._engine_first)
            for token_id in token_ids:
                text.pipeline.accept(token_id)
                text.add(token_id, self._engine_last)
            if text.finish_reason is None:
                text.finish(reason)
        self.finish_reason = self.texts[0].finish_reason


class _Search:
    """The beams that go on, and the best texts that have ended.

    Attributes:
        ids: `[num_beams, length]`, the beams' tokens, prompt included, likeliest first.
        parents: `[num_beams]`, the beam of the step before that each one continues.
        scores, texts: of the best ended texts, best first: score and new tokens.
    """

    def __init__(self, text: TokenSequence, tokenizer: Tokenizer) -> None:
        self.options: GenerationOptions = text.options
        self.num_beams = text.options.num_beams
        self.ids = np.repeat(text.ids[None], self.num_beams, axis=0)
        self.parents = np.arange(self.num_beams)
        self.scores = np.full(self.num_beams, _BAD)
        self.texts: list[list[int]] = [[] for _ in range(self.num_beams)]
        self._random = text.random
        self._budget = text.budget
        self._prompt_length = len(text.prompt_ids)
        self._pipelines = [text.pipeline.fork() for _ in range(self.num_beams)]
        self._stops = _StopSearch(text.options.stops, self.num_beams, tokenizer)
        self._ended = np.zeros(self.num_beams, bool)
        self._improvable = True
        # The beams begin alike: only the first one counts.
        self._running = np.full(self.num_beams, _BAD)
        self._running[0] = 0

    def advance(self, logits: Logits, stop_now: bool) -> bool:
        """Take the logits `[num_beams, vocab_size]` after each beam; return whether to go on."""
        check_largest(logits.max(axis=-1))
        log_probs = self._log_probs(logits)
        if not (log_probs.max(axis=-1) > -np.inf).any():
            if self._ended.any():  # nothing may follow any beam: what has ended is all there is
                return False
            raise nothing_left()
        flat = (log_probs + self._running[:, None]).ravel()
        picked = self._pick(flat, max(2, 1 + len(self.options.eos_token_ids)) * self.num_beams)
        parents, tokens = np.divmod(picked, log_probs.shape[1])
        candidates = np.concatenate([self.ids[parents], tokens[:, None]], axis=1)
        length = candidates.shape[1] - self._prompt_length
        ends = np.isin(tokens, self.options.eos_token_ids) | self._stops.ends(parents, tokens)
        ends |= self._completed(parents, tokens)
        ends |= stop_now or length >= self._budget
        self._collect(candidates, flat[picked], ends)
        going_on = flat[picked] + np.where(ends, _BAD, np.float32(0))
        best = top(going_on, self.num_beams)
        self._running, self.parents, self.ids = going_on[best], parents[best], candidates[best]
        self._improvable = self._improvable and self._may_improve()
        full = self._ended.all() and self.options.early_stopping is True
        if not self._improvable or full or ends.all():
            return False
        self._follow()
        return True

    def give_up(self) -> None:
        """Take the beams as they are among the texts that have ended."""
        self._collect(self.ids, self._running, np.ones(self.num_beams, bool))

    def _log_probs(self, logits: Logits) -> Logits:
        scores = log_softmax(logits)
        for beam, pipeline in enumerate(self._pipelines):
            scores[beam] = pipeline.constrain(scores[beam])
            if scores[beam].max() > -np.inf:
                scores[beam] = pipeline.warp(scores[beam])
        return scores

    def _completed(
        self, parents: NDArray[np.int64], tokens: NDArray[np.int64]
    ) -> NDArray[np.bool_]:
        """Tell which candidates are all that a constraint asks for."""
        completed = np.zeros(len(tokens), bool)
        if self._pipelines[0].constrained:
            for index, (parent, token_id) in enumerate(
                zip(parents.tolist(), tokens.tolist(), strict=True)
            ):
                pipeline = self._pipelines[parent].fork()
                pipeline.accept(token_id)
                completed[index] = pipeline.complete
        return completed

    def _follow(self) -> None:
        """Let the beams' pipelines be those of their parents, one token on."""
        parents = self.parents.tolist()
        last = {parent: beam for beam, parent in enumerate(parents)}
        self._pipelines = [
            self._pipelines[parent] if last[parent] == beam else self._pipelines[parent].fork()
            for beam, parent in enumerate(parents)
        ]
        tokens = self.ids[:, -1]
        for pipeline, token_id in zip(self._pipelines, tokens.tolist(), strict=True):
            pipeline.accept(token_id)
        self._stops.follow(self.parents, tokens)

    def _pick(self, flat: Scores, count: int) -> NDArray[np.int64]:
        """Return the best candidates, or so many drawn without replacement in their order.

        The largest of scores plus Gumbel noise are such a draw: https://arxiv.org/abs/1903.06059
        """
        if self._random is not None:
            flat = flat + self._random.gumbel(size=len(flat)).astype(np.float32)
        return top(flat, min(count, len(flat)))

    def _collect(
        self, candidates: NDArray[np.int64], log_probs: Scores, ends: NDArray[np.bool_]
    ) -> None:
        """Merge the candidates that end, if they are among the `num_beams` best, with the texts."""
        length = candidates.shape[1] - self._prompt_length
        ending = ends & (np.arange(len(ends)) < self.num_beams)
        scores = log_probs / np.float32(length**self.options.length_penalty)
        if (self._ended.all() and self.options.early_stopping is True) or not self._improvable:
            scores = scores + _BAD
        scores = np.where(ending, scores, scores + _BAD)
        merged = np.concatenate([self.scores, scores])
        best = top(merged, self.num_beams)
        texts = [*self.texts, *candidates[:, self._prompt_length :].tolist()]
        self.scores, self.texts = merged[best], [texts[i] for i in best]
        self._ended = np.concatenate([self._ended, ending])[best]

    def _may_improve(self) -> bool:
        """Guess whether a beam that goes on can still beat an ended text, as transformers does."""
        penalty = self.options.length_penalty
        length = self.ids.shape[1] - self._prompt_length
        if self.options.early_stopping == "never" and penalty > 0:
            length = self._budget
        possible = self._running[0] / np.float32(length**penalty)
        worst = np.where(self._ended, self.scores.min(), _BAD)
        return bool((possible > worst).any())


class _StopSearch:
    """Looks for stop strings in beams, whose bytes it knows as far back as one may reach."""

    def __init__(self, stops: Sequence[str], num_beams: int, tokenizer: Tokenizer) -> None:
        self._stops = [stop.encode() for stop in stops]
        self._reach = max(map(len, self._stops), default=1) - 1
        self._bytes_of = tokenizer.token_bytes
        self._ends = [b""] * num_beams

    def ends(self, parents: NDArray[np.int64], tokens: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Tell which candidates, each a beam and its next token, hold a stop string."""
        if not self._stops:
            return np.zeros(len(tokens), bool)
        texts = [
            self._ends[parent] + self._bytes_of(token)
            for parent, token in zip(parents.tolist(), tokens.tolist(), strict=True)
        ]
        return np.array([any(stop in text for stop in self._stops) for text in texts])

    def follow(self, parents: NDArray[np.int64], tokens: NDArray[np.int64]) -> None:
        """Let the beams be those that continue `parents` by `tokens`."""
        if self._stops:
            texts = [
                self._ends[parent] + self._bytes_of(token)
                for parent, token in zip(parents.tolist(), tokens.tolist(), strict=True)
            ]
            self._ends = [text[max(0, len(text) - self._reach) :] for text in texts]


class _Rows:
    """Which row of the cache holds which beam.

    Beams move, rows do not: a beam's first continuation stays in its row, a further one takes the
    row of a beam that died. That row already holds what the two beams have in common, so a step
    copies, for every beam that died, only the keys and values of the tokens since the two parted;
    a step in which no beam died copies nothing.

    Attributes:
        of_beam: `[beams]`, the row of each.
    """

    def __init__(self, count: int, prompt_length: int) -> None:
        self.of_beam = np.arange(count)
        self._length = prompt_length
        # How many leading tokens two rows have in common: at first the prompt.
        self._common = np.full((count, count), prompt_length)

    def follow(self, parents: NDArray[np.int64], copy_row: CopyRow) -> None:
        """Make beam i continue what beam `parents[i]` was; a token is put behind each."""
        sources = self.of_beam[parents]
        free = [row for row in range(len(sources)) if row not in sources]
        taken: set[int] = set()
        for beam, source in enumerate(sources.tolist()):
            if source in taken:
                self.of_beam[beam] = free.pop()
                self._copy(source, int(self.of_beam[beam]), copy_row)
            else:
                self.of_beam[beam] = source
                taken.add(source)
        self._length += 1

    def _copy(self, source: int, target: int, copy_row: CopyRow) -> None:
        common = self._common
        copy_row(source, target, int(common[source, target]))
        common[target], common[:, target] = common[source], common[:, source]
        common[source, target] = common[target, source] = self._length
