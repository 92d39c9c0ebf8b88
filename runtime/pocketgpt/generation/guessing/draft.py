"""A draft model: a smaller one that reads along and guesses greedily what comes next.

The texts of a scheduler have slots of their own in the draft's cache, side by side as long as they
are guessed for. What it guessed and did not come true is forgotten as soon as it guesses again.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ...engine.decoder import Decoder
from ..prefix_cache import common_prefix
from ..processors import Logits
from ..sequence import Ids, TokenSequence
from .worth import Worth

LATE = 8  # tokens; more of a text that were not read yet are read by themselves


class Draft:
    """A draft's cache, and the texts in it.

    Attributes:
        seconds: how long guessing took in all.
        first_seconds: how long reading took of what texts began with.
        late_seconds: how long it took where a text had gone on without guesses.
        worth: what it was worth in the texts before.
    """

    def __init__(self, decoder: Decoder, n_positions: int, worth: Worth) -> None:
        """Take over the draft's decoder, with as many slots as texts are decoded together."""
        self.seconds = self.first_seconds = self.late_seconds = 0.0
        self.worth = worth
        self._decoder = decoder
        self._n_positions = n_positions
        self._slots: dict[TokenSequence, int] = {}
        self._new: set[TokenSequence] = set()
        self._held = [np.zeros(0, np.int64)] * decoder.slots  # the tokens that each slot holds

    @property
    def engine_seconds(self) -> float:
        """How long ONNX Runtime has run for the draft in all."""
        return self._decoder.engine_seconds

    def room(self, text: TokenSequence) -> int:
        """How many tokens it can guess of a text: its context may be the shorter one."""
        return min(text.options.num_assistant_tokens, max(0, self._n_positions + 1 - len(text.ids)))

    def guess(self, texts: Sequence[TokenSequence], count: int) -> list[list[int]]:
        """Return what may come next in each text, at most `count` tokens, at least one.

        Args:
            texts: there is room in each for a token; all others leave.
            count: most tokens. A text's guess is shorter where there is no room, or where the
                draft is not sure: where it gives its token less than
                `assistant_confidence_threshold`, as in transformers.
        """
        wanted = set(texts)
        for text in [text for text in self._slots if text not in wanted]:
            self.leave(text)
        for text in texts:
            if text not in self._slots:
                self._slots[text] = len(self._slots)
                self._new.add(text)
                self._decoder.reserve(min(text.most_tokens, self._n_positions))
        count = min(count, *(self.room(text) for text in texts))
        logits = self._catch_up()
        guesses = self._go_on(logits, count)
        return [guesses[self._slots[text]] for text in texts]

    def leave(self, text: TokenSequence) -> None:
        """Give a text's slot away, to the last one; what the last slot holds may serve another."""
        slot, last = self._slots.pop(text, None), len(self._slots)
        if slot is None or slot == last:
            return
        self._decoder.copy_slot(last, slot)
        self._held[slot] = self._held[last]
        for other, place in self._slots.items():
            if place == last:
                self._slots[other] = slot

    def _catch_up(self) -> Logits:
        """Read what the texts have become; return `[texts, vocab_size]` after them, by slot."""
        most = LATE if len(self._slots) == 1 else min(LATE, self._decoder.widest)
        chunks: list[list[int]] = [[]] * len(self._slots)
        for text, slot in self._slots.items():
            chunk = self._unread(text, slot)
            if len(chunk) > most:
                begin = time.perf_counter()
                self._decoder.prefill(chunk[:-1], slot)
                seconds = time.perf_counter() - begin
                if text in self._new:
                    self.first_seconds += seconds
                else:
                    self.late_seconds += seconds
                chunk = chunk[-1:]
            chunks[slot] = chunk
        self._new.clear()
        begin = time.perf_counter()
        if all(len(chunk) == 1 for chunk in chunks):
            logits = self._decoder.step([chunk[0] for chunk in chunks])
        else:
            logits = np.concatenate([rows[-1:] for rows in self._decoder.check(chunks)])
        self.seconds += time.perf_counter() - begin
        return logits

    def _unread(self, text: TokenSequence, slot: int) -> list[int]:
        """Let a text's slot hold no more than what is the text's; return the tokens it lacks."""
        shared = common_prefix(self._held[slot], text.ids[:-1])
        self._held[slot] = self._held[slot][:shared]
        self._decoder.rewind(shared, slot)
        unread: list[int] = text.ids[shared:].tolist()
        return unread

    def _go_on(self, logits: Logits, count: int) -> list[list[int]]:
        """Return the likeliest tokens behind the texts, by slot; the slots then hold them."""
        begin = time.perf_counter()
        texts = sorted(self._slots, key=self._slots.__getitem__)
        least = np.array([text.options.assistant_confidence_threshold for text in texts])
        lengths = np.zeros(len(texts), np.int64)
        sure = np.ones(len(texts), np.bool_)
        made: list[Ids] = []
        while True:
            tokens = logits.argmax(axis=-1)
            made.append(tokens)
            lengths[sure] += 1
            sure &= _as_likely(logits, tokens, least)
            if len(made) == count or not sure.any():
                break
            logits = self._decoder.step(tokens.tolist())
        guessed = np.stack(made, axis=1)
        for slot, text in enumerate(texts):
            self._held[slot] = np.concatenate([text.ids, guessed[slot, :-1]])
        self.seconds += time.perf_counter() - begin
        return [row[:length] for row, length in zip(guessed.tolist(), lengths, strict=True)]


def _as_likely(logits: Logits, tokens: Ids, least: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Return for each row whether its likeliest token has at least some probability."""
    if not least.any():
        return np.ones(len(least), np.bool_)
    largest = np.take_along_axis(logits, tokens[:, None], axis=-1)
    sure: NDArray[np.bool_] = np.exp(logits - largest).sum(axis=-1) * least <= 1
    return sure
