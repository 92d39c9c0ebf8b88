"""No sequence of n tokens twice, in the text or of the prompt's."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self

from .base import MINUS_INFINITY, Logits, Processor


class NoRepeatNgrams(Processor):
    """Rule out every token that would end a sequence of `size` tokens that came before.

    transformers' NoRepeatNGramLogitsProcessor; with `prompt_only`, where the sequences are the
    prompt's and no new ones are added, EncoderNoRepeatNGramLogitsProcessor.
    """

    def __init__(self, size: int, prompt_ids: Sequence[int], *, prompt_only: bool = False) -> None:
        """Begin behind a prompt: index what follows each sequence of `size` - 1 tokens in it."""
        self._prefix_length = size - 1
        self._prompt_only = prompt_only
        self._followers: dict[tuple[int, ...], tuple[int, ...]] = {}
        self._recent: tuple[int, ...] = ()
        for token_id in prompt_ids:
            self._advance(token_id, index=True)

    def process(self, logits: Logits) -> None:
        """Change the logits `[vocab]` in place."""
        if banned := self._followers.get(self._recent):
            logits[list(banned)] = MINUS_INFINITY

    def accept(self, token_id: int) -> None:
        """Take the text's next token."""
        self._advance(token_id, index=not self._prompt_only)

    def fork(self) -> Self:
        """Return one in the same state that goes on by itself."""
        twin = super().fork()
        if not self._prompt_only:
            twin._followers = self._followers.copy()
        return twin

    def _advance(self, token_id: int, *, index: bool) -> None:
        if index and len(self._recent) == self._prefix_length:
            known = self._followers.get(self._recent, ())
            if token_id not in known:
                self._followers[self._recent] = (*known, token_id)
        if self._prefix_length:
            self._recent = (*self._recent, token_id)[-self._prefix_length :]
