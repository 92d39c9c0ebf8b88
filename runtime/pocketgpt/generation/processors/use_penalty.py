"""What makes generated tokens less likely, by having come and by how often."""

from __future__ import annotations

from collections import Counter
from typing import Self

import numpy as np

from .base import Logits, Processor


class UsePenalty(Processor):
    """Subtract `presence` once, and `frequency` for each time, from generated tokens' logits.

    https://platform.openai.com/docs/api-reference/chat/create: `presence_penalty` and
    `frequency_penalty`. The prompt does not count.
    """

    def __init__(self, presence: float, frequency: float) -> None:
        """Begin with nothing generated."""
        self._presence, self._frequency = presence, frequency
        self._counts: Counter[int] = Counter()

    def process(self, logits: Logits) -> None:
        """Change the logits `[vocab]` of the tokens generated so far, in place."""
        if self._counts:
            ids = np.fromiter(self._counts.keys(), np.int64, len(self._counts))
            counts = np.fromiter(self._counts.values(), np.float64, len(self._counts))
            logits[ids] -= (self._presence + self._frequency * counts).astype(np.float32)

    def accept(self, token_id: int) -> None:
        """Count a token."""
        self._counts[token_id] += 1

    def fork(self) -> Self:
        """Return one in the same state that goes on by itself."""
        twin = super().fork()
        twin._counts = self._counts.copy()
        return twin
