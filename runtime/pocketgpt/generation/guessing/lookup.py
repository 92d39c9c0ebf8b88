"""Prompt lookup: what followed the newest tokens where they came before may follow them again.

Code that is edited, texts that are quoted, fields that are extracted. As transformers'
PromptLookupCandidateGenerator, but for the newest match instead of the first.
"""

from __future__ import annotations

from collections.abc import Sequence

NGRAMS = (3, 2)  # tokens to look up; the longer ones first


class PromptLookup:
    """One text, and where each of its short sequences of tokens came last."""

    def __init__(self, prompt_ids: Sequence[int], most: int) -> None:
        """Begin behind a prompt; a guess has at most `most` tokens."""
        self._most = most
        self._ids: list[int] = []
        # What came behind each sequence of n tokens lately, as a place among the ids.
        self._behind: dict[tuple[int, ...], int] = {}
        for token_id in prompt_ids:
            self.accept(token_id)

    def accept(self, token_id: int) -> None:
        """Take the text's next token."""
        for size in NGRAMS:
            if len(self._ids) >= size:
                self._behind[tuple(self._ids[-size:])] = len(self._ids)
        self._ids.append(token_id)

    @property
    def room(self) -> int:
        """How many tokens can be guessed now."""
        return self._most if self._place() is not None else 0

    def guess(self, count: int) -> list[int]:
        """Return the `count` tokens that may come next; none where nothing is alike.

        A text that repeats itself up to its end is taken to go on so.
        """
        place = self._place()
        if place is None:
            return []
        period = len(self._ids) - place
        return [self._ids[place + number % period] for number in range(count)]

    def _place(self) -> int | None:
        for size in NGRAMS:
            place = self._behind.get(tuple(self._ids[-size:])) if len(self._ids) >= size else None
            if place is not None:
                return place
        return None
