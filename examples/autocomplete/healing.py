"""Go on from a half-typed word: the text's last word is made anew, and has to begin as typed.

A tokenizer cuts a text into the tokens that the model was trained on, and "Once up" is none of its
texts: after the tokens "Once" and " up" it has never seen "on". So the prompt ends before the last
word, and the new text must begin with what was typed of it (token healing).
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tokenizers.pre_tokenizers import ByteLevel

import pocketgpt

# The space before a word is a part of its token, but a line's end is none.
LAST_WORD = re.compile(r"[^\S\n]?\S*\Z")
Beginning = Callable[[NDArray[np.int64], NDArray[np.float32]], NDArray[np.float32]]


def split(text: str) -> tuple[str, str]:
    """Return the text up to its last word, and that word as typed, the space before it included."""
    found = LAST_WORD.search(text)
    assert found is not None  # it matches nothing, if nothing else
    return text[: found.start()], found[0]


class Healer:
    """Knows which tokens of a byte-level vocabulary begin with what."""

    def __init__(self, tokenizer: Any) -> None:
        """Sort the vocabulary once; the tokens are bytes, written in GPT-2's alphabet."""
        if not tokenizer.is_byte_level:
            raise pocketgpt.OptionError("autocomplete takes models with GPT-2's byte-level tokens")
        special = tokenizer.special_ids
        self._ids = {token: i for token, i in tokenizer.vocabulary.items() if i not in special}
        self._sorted = sorted(self._ids)
        self._text = {i: token for token, i in self._ids.items()}

    def beginning(self, typed: str, prompt_length: int) -> Beginning:
        """Return a `logits_processor` that holds the new text to begin with `typed`.

        Args:
            typed: what the text after the prompt has to begin with.
            prompt_length: how many tokens the prompt has.
        """
        wanted = _alphabet(typed)

        def held(ids: NDArray[np.int64], logits: NDArray[np.float32]) -> NDArray[np.float32]:
            made = "".join(self._text.get(int(i), "") for i in ids[prompt_length:])
            if not made.startswith(wanted):
                allowed = self._allowed(wanted[len(made) :])
                others = np.ones(len(logits), bool)
                others[allowed] = False
                logits[others] = -np.inf
            return logits

        return held

    def _allowed(self, rest: str) -> list[int]:
        """Return the tokens that begin with what is missing, or are its beginning."""
        first = bisect_left(self._sorted, rest)
        after = bisect_left(self._sorted, rest + "\U0010ffff")
        shorter = (rest[:length] for length in range(1, len(rest)))
        begin = [self._ids[token] for token in shorter if token in self._ids]
        return begin + [self._ids[token] for token in self._sorted[first:after]]


def _alphabet(text: str) -> str:
    """Return the text's bytes in GPT-2's alphabet, a printable character each."""
    pieces = ByteLevel(add_prefix_space=False, use_regex=False).pre_tokenize_str(text)
    return "".join(piece for piece, _ in pieces)
