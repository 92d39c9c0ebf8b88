"""What keeps a text from ending too early, or makes it end the likelier the longer it is."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .base import MINUS_INFINITY, Logits, Processor


class MinNewTokens(Processor):
    """Rule out the end of text before `count` more tokens have come.

    transformers' MinNewTokensLengthLogitsProcessor, and MinLengthLogitsProcessor where `count` is
    what the prompt leaves of the length.
    """

    def __init__(self, count: int, eos_token_ids: Sequence[int]) -> None:
        """Begin behind the prompt."""
        self._left = count
        self._eos = np.array(eos_token_ids, np.int64)

    def process(self, logits: Logits) -> None:
        """Change the logits `[vocab]` in place."""
        if self._left > 0:
            logits[self._eos[self._eos < len(logits)]] = MINUS_INFINITY

    def accept(self, token_id: int) -> None:
        """Count a token."""
        self._left -= 1


class LengthDecay(Processor):
    """After `start` new tokens raise the end of text's logit, by more with every token.

    transformers' ExponentialDecayLengthPenalty: |logit| * (factor ** (tokens beyond start) - 1) is
    added. An end of text that is ruled out stays so (there it becomes a NaN).
    """

    def __init__(self, start: int, factor: float, eos_token_ids: Sequence[int]) -> None:
        """Begin behind the prompt."""
        self._beyond = -start
        self._factor = factor
        self._eos = np.array(sorted(set(eos_token_ids)), np.int64)

    def process(self, logits: Logits) -> None:
        """Change the logits `[vocab]` in place."""
        if self._beyond <= 0:
            return
        ids = self._eos[self._eos < len(logits)]
        ids = ids[logits[ids] > MINUS_INFINITY]
        with np.errstate(over="ignore"):
            growth = np.float32(np.float64(self._factor) ** self._beyond - 1)
            now = logits[ids]
            raised = now + np.where(now == 0, 0, np.abs(now) * growth)
        # Where the product overflows, the end of text is all there is, by a number that is one.
        logits[ids] = np.minimum(raised, np.finfo(np.float32).max)

    def accept(self, token_id: int) -> None:
        """Count a token."""
        self._beyond += 1
