"""DRY, "don't repeat yourself": the longer a repetition, the less likely what would go on with it.

By llama.cpp's definition (`llama_sampler_dry_apply` in src/llama-sampler.cpp); proposed in
https://github.com/oobabooga/text-generation-webui/pull/5677.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Self

import numpy as np

from .base import Logits, Processor

# Token id to what has to follow it so that both together hold a sequence breaker; maybe nothing.
Breakers = Mapping[int, Sequence[tuple[int, ...]]]

_LOG_OF_LARGEST_FLOAT = 88.7228391  # float32's, as llama.cpp has it


class Dry(Processor):
    """Penalize tokens that would go on repeating `allowed_length` and more tokens of the text.

    A token that would continue a repetition of n tokens loses `multiplier` * `base` ** (n -
    `allowed_length`) of its logit, n being the longest such; sequence breakers lose nothing, and
    no repetition goes across one. Only the newest `last_n` tokens count; -1 for all.
    """

    def __init__(
        self,
        multiplier: float,
        base: float,
        allowed_length: int,
        last_n: int,
        breakers: Breakers,
        prompt_ids: Iterable[int],
    ) -> None:
        """Begin behind a prompt."""
        self._multiplier, self._base, self._allowed = multiplier, base, allowed_length
        self._last_n, self._breakers = last_n, breakers
        self._free = {head for head, tails in breakers.items() if () in tails}
        self._length = 0
        self._ids = np.zeros(256, np.int64)
        # For each place, how many tokens before and at it equal the text's newest ones.
        self._repeats = np.zeros(256, np.int64)
        for token_id in prompt_ids:
            self.accept(token_id)

    def process(self, logits: Logits) -> None:
        """Change the logits `[vocab]` in place."""
        window = self._length if self._last_n < 0 else min(self._last_n, self._length)
        if window <= self._allowed:
            return
        limit = self._since_breaker(window)
        if limit < self._allowed:
            return
        start = self._length - window
        reach = np.minimum(np.arange(1, window), limit)  # a repetition ends where the window does
        repeats = np.minimum(self._repeats[start : self._length - 1], reach)
        longest: dict[int, int] = {}
        for place in np.flatnonzero(repeats >= self._allowed).tolist():
            follower = int(self._ids[start + place + 1])
            longest[follower] = max(longest.get(follower, 0), int(repeats[place]))
        for token_id, length in longest.items():
            if token_id not in self._free:
                logits[token_id] -= np.float32(self._penalty(length))

    def accept(self, token_id: int) -> None:
        """Take the text's next token."""
        count = self._length
        if count == len(self._ids):
            self._ids = np.concatenate([self._ids, np.zeros_like(self._ids)])
            self._repeats = np.concatenate([self._repeats, np.zeros_like(self._repeats)])
        same = self._ids[:count] == token_id
        longer = np.concatenate([[0], self._repeats[: max(count - 1, 0)]]) + 1
        self._repeats[:count] = np.where(same, longer[:count], 0)
        self._ids[count] = token_id
        self._length += 1

    def fork(self) -> Self:
        """Return one in the same state that goes on by itself."""
        twin = super().fork()
        twin._ids, twin._repeats = self._ids.copy(), self._repeats.copy()
        return twin

    def _penalty(self, length: int) -> float:
        exponent = length - self._allowed
        if self._base > 1.000001:
            exponent = min(exponent, int(_LOG_OF_LARGEST_FLOAT / math.log(self._base)) or exponent)
        return float(self._multiplier * self._base**exponent)

    def _since_breaker(self, window: int) -> int:
        """Return how many newest tokens, at most `window`, come after the last sequence breaker."""
        newest = self._ids[self._length - window : self._length][::-1].tolist()
        for place, token_id in enumerate(newest):
            matching = [
                len(tail)
                for tail in self._breakers.get(token_id, ())
                if len(tail) <= place and tail == tuple(newest[place - len(tail) : place][::-1])
            ]
            if matching:
                return place - max(matching)
        return window
