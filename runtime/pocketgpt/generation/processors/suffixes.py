"""How a text ends: which of several sequences its next token would complete."""

from __future__ import annotations

import copy
from collections import defaultdict, deque
from collections.abc import Iterable, Mapping, Sequence
from typing import Generic, Self, TypeVar

Value = TypeVar("Value")


class SuffixMatcher(Generic[Value]):
    """Sequences of two and more tokens, each with a value, matched against a text's end.

    Only the tokens that the longest of them needs are looked at.
    """

    def __init__(
        self, sequences: Mapping[tuple[int, ...], Value], prompt_ids: Iterable[int]
    ) -> None:
        """Begin behind a prompt; sequences of one token are passed over."""
        self._by_prefix: dict[tuple[int, ...], list[tuple[int, Value]]] = defaultdict(list)
        for (*prefix, last), value in sequences.items():
            if prefix:
                self._by_prefix[tuple(prefix)].append((last, value))
        self._lengths = sorted({len(prefix) for prefix in self._by_prefix})
        # One token more than a prefix has: transformers looks at a sequence only once the text is
        # as long as all of it.
        self._recent = deque(prompt_ids, maxlen=1 + max(self._lengths, default=0))

    def completions(self) -> Sequence[tuple[int, Value]]:
        """Return each token that would complete a sequence now, with the sequence's value."""
        recent = tuple(self._recent)
        return [
            completion
            for length in self._lengths
            if length < len(recent)
            for completion in self._by_prefix.get(recent[-length:], ())
        ]

    def accept(self, token_id: int) -> None:
        """Take the text's next token."""
        self._recent.append(token_id)

    def fork(self) -> Self:
        """Return one in the same state that goes on by itself."""
        twin = copy.copy(self)
        twin._recent = self._recent.copy()
        return twin
