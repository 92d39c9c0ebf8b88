"""Sequences of tokens that never come."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Self

from .base import MINUS_INFINITY, Logits, Processor
from .suffixes import SuffixMatcher


class BadWords(Processor):
    """Rule out every token that would complete one of `words`; an EOS alone is no word.

    transformers' NoBadWordsLogitsProcessor, which looks at a word only once the text is as long.
    """

    def __init__(
        self,
        words: Sequence[Sequence[int]],
        eos_token_ids: Sequence[int],
        prompt_ids: Iterable[int],
    ) -> None:
        """Begin behind a prompt."""
        single = {word[0] for word in words if len(word) == 1}
        self._single = sorted(single.difference(eos_token_ids))
        self._longer = SuffixMatcher(dict.fromkeys(map(tuple, words)), prompt_ids)

    def process(self, logits: Logits) -> None:
        """Change the logits `[vocab]` in place."""
        banned = [*self._single, *(token_id for token_id, _ in self._longer.completions())]
        if banned:
            logits[banned] = MINUS_INFINITY

    def accept(self, token_id: int) -> None:
        """Take the text's next token."""
        self._longer.accept(token_id)

    def fork(self) -> Self:
        """Return one in the same state that goes on by itself."""
        twin = super().fork()
        twin._longer = self._longer.fork()
        return twin
