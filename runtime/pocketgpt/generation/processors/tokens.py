"""Tokens that never come, or that alone may come at the beginning or the end."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .base import MINUS_INFINITY, Logits, Processor


class SuppressTokens(Processor):
    """Rule out tokens; those outside the vocabulary are out already.

    transformers' SuppressTokensLogitsProcessor.
    """

    def __init__(self, token_ids: Sequence[int]) -> None:
        """Take the tokens that never come."""
        self._ids = np.array(token_ids, np.int64)

    def process(self, logits: Logits) -> None:
        """Change the logits `[vocab]` in place."""
        logits[self._ids[self._ids < len(logits)]] = MINUS_INFINITY


class ForceTokens(Processor):
    """Rule out all but some tokens before the token number `when`, counted from now.

    With a prompt of one token and `when` 0 transformers' ForcedBOSTokenLogitsProcessor; with the
    budget's last token ForcedEOSTokenLogitsProcessor.
    """

    def __init__(self, token_ids: Sequence[int], when: int) -> None:
        """Take the tokens that alone may come once `when` tokens have come."""
        self._ids = list(token_ids)
        self._left = when

    def process(self, logits: Logits) -> None:
        """Change the logits `[vocab]` in place, where it is time."""
        if self._left == 0:
            logits.fill(MINUS_INFINITY)
            logits[self._ids] = 0

    def accept(self, token_id: int) -> None:
        """Count a token."""
        self._left -= 1
