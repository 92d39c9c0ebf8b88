"""What is added to the logits of some tokens, or of those that would complete a sequence."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Self

import numpy as np

from .base import Logits, Processor
from .suffixes import SuffixMatcher


class TokenBias(Processor):
    """Add to each token's logit what `bias` has for it; OpenAI's `logit_bias`."""

    def __init__(self, bias: Mapping[int, float]) -> None:
        """Take a bias for each of some tokens."""
        self._ids = np.array(list(bias), np.int64)
        self._amounts = np.array(list(bias.values()), np.float32)

    def process(self, logits: Logits) -> None:
        """Change the logits `[vocab]` in place."""
        logits[self._ids] += self._amounts


class SequenceBias(Processor):
    """Add a sequence's bias to its last token's logit where the text ends with the tokens before.

    transformers' SequenceBiasLogitsProcessor, which adds up what several sequences say of one token
    before it adds it to the logit.
    """

    def __init__(self, bias: Mapping[tuple[int, ...], float], prompt_ids: Iterable[int]) -> None:
        """Begin behind a prompt."""
        self._single = {ids[0]: amount for ids, amount in bias.items() if len(ids) == 1}
        self._longer = SuffixMatcher(bias, prompt_ids)

    def process(self, logits: Logits) -> None:
        """Change the logits `[vocab]` in place."""
        total = {token_id: np.float32(amount) for token_id, amount in self._single.items()}
        for token_id, amount in self._longer.completions():
            total[token_id] = total.get(token_id, np.float32(0)) + np.float32(amount)
        if total:
            logits[list(total)] += np.array(list(total.values()), np.float32)

    def accept(self, token_id: int) -> None:
        """Take the text's next token."""
        self._longer.accept(token_id)

    def fork(self) -> Self:
        """Return one in the same state that goes on by itself."""
        twin = super().fork()
        twin._longer = self._longer.fork()
        return twin
