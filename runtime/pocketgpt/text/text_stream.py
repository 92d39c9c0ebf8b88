"""Text from token ids as they come, without half a character."""

from __future__ import annotations

import codecs
from collections.abc import Sequence

from .tokenizer import Tokenizer


class TextStream:
    """Text from token ids as they come: whole characters, as soon as they are whole.

    The pieces joined equal `Tokenizer.decode` of all ids, or behind others what those ids add to
    the text. tokenizers' own `DecodeStream` decodes the newest tokens again at every step, and has
    no end: an incomplete character is lost in it.
    """

    def __init__(self, tokenizer: Tokenizer, behind: Sequence[int] = ()) -> None:
        """Start a text, or go on with the one of the ids `behind` which it comes."""
        self._tokenizer = tokenizer
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._first = not any(tokenizer.is_text(token_id) for token_id in reversed(behind))

    def push(self, token_id: int) -> str:
        """Take a token; return the characters it completes, maybe none."""
        piece = self._tokenizer.token_bytes(token_id, self._first)
        if self._first:
            self._first = not self._tokenizer.is_text(token_id)
        return self._decoder.decode(piece)

    def finish(self) -> str:
        """Return what stands for a character left incomplete at the end: U+FFFD, or nothing."""
        return self._decoder.decode(b"", final=True)
