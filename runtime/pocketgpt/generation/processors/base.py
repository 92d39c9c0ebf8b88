"""What all processors are, and probabilities from logits."""

from __future__ import annotations

import copy
from typing import Self

import numpy as np
from numpy.typing import NDArray

Logits = NDArray[np.float32]
Ids = NDArray[np.int64]

MINUS_INFINITY = np.float32(-np.inf)  # what a token gets that is ruled out


class Processor:
    """One rule about one text's next token, and what it has to know of the text so far.

    Made behind a text's prompt. This base knows nothing and changes nothing.
    """

    def process(self, logits: Logits) -> None:
        """Change the next token's logits `[vocab]` in place."""

    def accept(self, token_id: int) -> None:
        """Take note of a token that the text now has."""

    def fork(self) -> Self:
        """Return one in the same state that goes on by itself."""
        return copy.copy(self)


def softmax(logits: Logits) -> Logits:
    """Return probabilities along the last axis."""
    weights: Logits = np.exp(logits - logits.max(axis=-1, keepdims=True))
    total: Logits = weights.sum(axis=-1, keepdims=True)
    return weights / total


def log_softmax(logits: Logits) -> Logits:
    """Return natural log-probabilities along the last axis."""
    shifted: Logits = logits - logits.max(axis=-1, keepdims=True)
    normalizer: Logits = np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
    return shifted - normalizer
