"""Beam search and beam sampling, after `_beam_search` in transformers' `generation/utils.py`.

Scores are float32 and unfinished texts stand in as very bad ones, both as there, so that the same
texts win. The cache is reordered differently: see `_Slots`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from ..engine.decoder import Decoder, PrefillCancelledError
from ..text.tokenizer import TextStream, Tokenizer
from .options import GenerationOptions
from .pipeline import Pipeline
from .processors import Logits, log_softmax
from .sampler import nothing_left
from .sequence import Row
from .topk import top

Scores = NDArray[np.float32]

_BAD = np.float32(-1e9)


def beam_search(
    decoder: Decoder, rows: Sequence[Row], tokenizer: Tokenizer, cancelled: Callable[[], bool]
) -> None:
    """Fill `rows`, the texts to return for one prompt, with the best ones found; best first.

    Args:
        decoder: `num_beams` rows, empty.
        rows: fresh, all of one prompt and one set of options.
        tokenizer: turns a beam into text where there are stop strings.
        cancelled: asked before every step; when it says so, the best texts so far are taken.
    """
    search = _Search(rows[0], tokenizer)
    try:
        logits = decoder.prefill(rows[0].prompt_ids, 0, cancelled)
    except PrefillCancelledError:
        for row in rows:
            row.finish("cancelled")
        return
    slots = _Slots(decoder)
    logits = np.repeat(logits, search.num_beams, axis=0)
    while True:
        stop_now = cancelled() or rows[0].out_of_time
        if not search.advance(logits, stop_now):
            break
        slots.follow(search.parents)
        tokens = np.empty(search.num_beams, np.int64)
        tokens[slots.of_beam] = search.ids[:, -1]
        logits = decoder.step(tokens.tolist())[slots.of_beam]
    for row, score, token_ids in zip(rows, search.scores, search.texts, strict=False):
        row.score = float(score)
        for token_id in token_ids:
            row.add(token_id)
        if row.finish_reason is None:
            row.finish("cancelled" if cancelled() else "time")


class _Search:
    """The beams that go on, and the best texts that have ended.

    Attributes:
        ids: `[num_beams, length]`, the beams' tokens, prompt included, likeliest first.
        parents: `[num_beams]`, the beam of the step before that each one continues.
        scores, texts: of the best ended texts, best first: score and new tokens.
    """

    def __init__(self, row: Row, tokenizer: Tokenizer) -> None:
        self.options: GenerationOptions = row.options
        self.num_beams = row.options.num_beams
        self.ids = np.repeat(row.ids[None], self.num_beams, axis=0)
        self.parents = np.arange(self.num_beams)
        self.scores = np.full(self.num_beams, _BAD)
        self.texts: list[list[int]] = [[] for _ in range(self.num_beams)]
        self._pipelines = [row.pipeline.fork() for _ in range(self.num_beams)]
        self._random = row.random
        self._budget = row.budget
        self._prompt_length = len(row.prompt_ids)
        self._tokenizer = tokenizer
        self._ended = np.zeros(self.num_beams, bool)
        self._improvable = True
        # The beams begin alike: only the first one counts.
        self._running = np.full(self.num_beams, _BAD)
        self._running[0] = 0

    def advance(self, logits: Logits, stop_now: bool) -> bool:
        """Take the logits `[num_beams, vocab_size]` after each beam; return whether to go on."""
        log_probs = self._log_probs(logits)
        if not (log_probs.max(axis=-1) > -np.inf).any():  # every beam has ended, or may not go on
            if self._ended.any():
                return False
            raise nothing_left()
        flat = (log_probs + self._running[:, None]).ravel()
        picked = self._pick(flat, max(2, 1 + len(self.options.eos_token_ids)) * self.num_beams)
        parents, tokens = np.divmod(picked, log_probs.shape[1])
        candidates = np.concatenate([self.ids[parents], tokens[:, None]], axis=1)
        pipelines = self._continued(parents, tokens)
        ends = np.array(
            [
                stop_now or pipeline.complete or self._ends(ids)
                for ids, pipeline in zip(candidates, pipelines, strict=True)
            ]
        )
        self._collect(candidates, flat[picked], ends)
        going_on = flat[picked] + np.where(ends, _BAD, np.float32(0))
        best = top(going_on, self.num_beams)
        self._running, self.parents, self.ids = going_on[best], parents[best], candidates[best]
        self._pipelines = [pipelines[i] for i in best]
        self._improvable = self._improvable and self._may_improve()
        full = self._ended.all() and self.options.early_stopping is True
        return bool(self._improvable and not full and not ends.all())

    def _log_probs(self, logits: Logits) -> Logits:
        scores = log_softmax(logits)
        for pipeline, row in zip(self._pipelines, scores, strict=True):
            pipeline.constrain(row)
            if row.max() > -np.inf:
                row[:] = pipeline.warp(row)
        return scores

    def _continued(self, parents: NDArray[np.int64], tokens: NDArray[np.int64]) -> list[Pipeline]:
        """Return a pipeline for each candidate."""
        pipelines = [self._pipelines[parent].fork() for parent in parents.tolist()]
        for pipeline, token_id in zip(pipelines, tokens.tolist(), strict=True):
            pipeline.accept(token_id)
        return pipelines

    def _pick(self, flat: Scores, count: int) -> NDArray[np.int64]:
        """Return the best candidates, or so many drawn without replacement in their order.

        The largest of scores plus Gumbel noise are such a draw: https://arxiv.org/abs/1903.06059
        """
        if self._random is not None:
            flat = flat + self._random.gumbel(size=len(flat)).astype(np.float32)
        return top(flat, min(count, len(flat)))

    def _ends(self, ids: NDArray[np.int64]) -> bool:
        new = ids[self._prompt_length :]
        if int(new[-1]) in self.options.eos_token_ids or len(new) >= self._budget:
            return True
        if not self.options.stops:
            return False
        characters = TextStream(self._tokenizer)
        text = "".join(map(characters.push, new.tolist()))
        return any(stop in text for stop in self.options.stops)

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


class _Slots:
    """Which row of the cache holds which beam.

    Beams move, rows do not: a beam's first continuation stays in its row, a further one takes the
    row of a beam that died. That row already holds what the two beams have in common, so a step
    copies, for every beam that died, only the keys and values of the tokens since the two parted;
    a step in which no beam died copies nothing.
    """

    def __init__(self, decoder: Decoder) -> None:
        count = decoder.cache.batch_size
        for row in range(1, count):
            decoder.copy_row(0, row)
        self._decoder = decoder
        self.of_beam = np.arange(count)
        # How many leading tokens two rows have in common: at first the prompt, in row 0 alone.
        self._common = np.full((count, count), decoder.cache.length)

    def follow(self, parents: NDArray[np.int64]) -> None:
        """Make beam i continue what beam `parents[i]` was."""
        sources = self.of_beam[parents]
        free = [slot for slot in range(len(sources)) if slot not in sources]
        taken: set[int] = set()
        for beam, source in enumerate(sources.tolist()):
            if source in taken:
                self.of_beam[beam] = free.pop()
                self._copy(source, int(self.of_beam[beam]))
            else:
                self.of_beam[beam] = source
                taken.add(source)

    def _copy(self, source: int, target: int) -> None:
        common = self._common
        self._decoder.copy_row(source, target, int(common[source, target]))
        common[target], common[:, target] = common[source], common[:, source]
        length = self._decoder.cache.lengths[source]
        common[source, target] = common[target, source] = length
