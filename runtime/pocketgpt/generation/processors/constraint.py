"""A grammar that the new text has to follow, by llguidance."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

import numpy as np

from ...errors import OptionError
from .base import MINUS_INFINITY, Logits, Processor


class Constraint(Processor):
    """Rule out every token after which the new text could no longer become what it has to be.

    The end of text may come where the text is complete. The prompt is no part of it.

    Attributes:
        complete: the text is what it has to be, and nothing can follow.
    """

    def __init__(
        self, matcher: Any, eos_token_ids: Sequence[int], suppressed_ids: Sequence[int], said: str
    ) -> None:
        """Begin before the first new token.

        Args:
            matcher: llguidance's LLMatcher, fresh.
            eos_token_ids: what ends a text, and stands for none itself.
            suppressed_ids: what is no part of a text, whatever text it stands for: what ends one,
                and what llguidance takes for that.
            said: how errors name the option.
        """
        self.complete = False
        self._matcher = matcher
        self._eos = list(eos_token_ids)
        self._suppressed = list(suppressed_ids)
        self._said = said
        self._dead = False

    def process(self, logits: Logits) -> None:
        """Change the logits `[vocab]` in place."""
        allowed = np.zeros(len(logits), bool)
        if not self._dead:
            mask = np.frombuffer(self._matcher.compute_logit_bias(), np.uint8)[: len(logits)]
            allowed[: len(mask)] = mask
            self._check()
            allowed[self._suppressed] = False
            if self._matcher.is_accepting():
                allowed[self._eos] = True
        kept = np.flatnonzero(allowed)
        if 2 * len(kept) > len(logits):
            logits[np.flatnonzero(~allowed)] = MINUS_INFINITY
        else:
            values = logits[kept]
            logits.fill(MINUS_INFINITY)
            logits[kept] = values

    def accept(self, token_id: int) -> None:
        """Take the text's next token; after one that was ruled out (a beam's) nothing may come."""
        ended = self._dead or token_id in self._eos
        self._dead = ended or not self._matcher.try_consume_tokens([token_id])
        self._check()
        self.complete = not self._dead and self._matcher.is_stopped()

    def fork(self) -> Self:
        """Return one in the same state that goes on by itself."""
        twin = super().fork()
        twin._matcher = self._matcher.deep_copy()
        return twin

    def _check(self) -> None:
        if self._matcher.is_error():
            reason = " ".join(self._matcher.get_error().split())
            raise OptionError(f"{self._said} is too complex to follow: {reason[:200]}")
