"""Text from token ids as they come, without half a character."""

from __future__ import annotations

import codecs

from .tokenizer import Tokenizer


class TextStream:
    """Text from token ids as they come: whole characters, as soon as they are whole.

    The pieces joined equal `Tokenizer.decode` of all ids. tokenizers' own `DecodeStream` decodes
    the newest tokens again at every step, and has no end: an incomplete character is lost in it.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        """Start an empty stream."""
        self._tokenizer = tokenizer
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def push(self, token_id: int) -> str:
        """Take a token; return the characters it completes, maybe none."""
        return self._decoder.decode(self._tokenizer.token_bytes(token_id))

    def finish(self) -> str:
        """Return what stands for a character left incomplete at the end: U+FFFD, or nothing."""
        return self._decoder.decode(b"", final=True)
