"""What makes every token of the text less likely, or every token of the prompt more."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Self

import numpy as np

from .base import Ids, Logits, Processor


class RepetitionPenalty(Processor):
    """Divide the logit of every token in the text by `penalty`, or multiply it where negative.

    https://arxiv.org/abs/1909.05858; transformers' RepetitionPenaltyLogitsProcessor.
    """

    def __init__(self, prompt_ids: Iterable[int], penalty: float) -> None:
        """Begin with the prompt's tokens."""
        self._factor = np.float32(penalty)
        self._known = set(prompt_ids)
        self._ids = np.array([*self._known, *([0] * 64)], np.int64)  # and room for more

    def process(self, logits: Logits) -> None:
        """Change the logits `[vocab]` of the tokens the text has, in place."""
        penalize(logits, self._ids[: len(self._known)], self._factor)

    def accept(self, token_id: int) -> None:
        """Add a token to those the text has."""
        if token_id in self._known:
            return
        count = len(self._known)
        if count == len(self._ids):
            self._ids = np.concatenate([self._ids, np.zeros_like(self._ids)])
        self._ids[count] = token_id
        self._known.add(token_id)

    def fork(self) -> Self:
        """Return one in the same state that goes on by itself."""
        twin = super().fork()
        twin._known, twin._ids = self._known.copy(), self._ids.copy()
        return twin


class PromptRepetitionPenalty(Processor):
    """The same for the prompt's tokens alone, and the other way around: above 1 raises them.

    transformers' EncoderRepetitionPenaltyLogitsProcessor, to which a decoder's prompt is what an
    encoder read. (transformers applies it to the first beam only; here it is for all of them.)
    """

    def __init__(self, prompt_ids: Iterable[int], penalty: float) -> None:
        """Take the prompt's tokens."""
        self._ids = np.array(sorted(set(prompt_ids)), np.int64)
        self._factor = np.float32(1 / penalty)

    def process(self, logits: Logits) -> None:
        """Change the logits `[vocab]` of the prompt's tokens, in place."""
        penalize(logits, self._ids, self._factor)


def penalize(logits: Logits, ids: Ids, factor: np.float32) -> None:
    """Divide the logits of distinct `ids` by `factor`, or multiply them where negative."""
    seen = logits[ids]
    logits[ids] = np.where(seen < 0, seen * factor, seen / factor)
