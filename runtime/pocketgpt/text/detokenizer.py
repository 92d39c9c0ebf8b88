"""What each token stands for in a text: bytes that simply follow one another.

A tokenizer.json names a decoder for whole texts. Of those that GPT-2s come with, each gives a token
the same text wherever it stands, but for the first one of a text, which loses the space before it:

    ByteLevel    GPT-2's own: every character of a token is a byte
    WordPiece    BERT's (most Chinese GPT-2s): a space before every token that begins without ##
    Metaspace    SentencePiece's: U+2581 is a space. Also written as a sequence of Replace, Fuse and
                 Strip, with ByteFallback where tokens such as <0xE2> are bytes
    none         WordLevel's: a space between tokens

So texts can be shown token by token, and what is shown is what decoding the whole text gives.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from typing import Any

import tokenizers

_SEQUENCE = {"Replace", "ByteFallback", "Fuse", "Strip", "Metaspace"}
_BYTE_TOKEN = re.compile(r"<0x([0-9A-F]{2})>")


class Detokenizer:
    """The bytes of a tokenizer's tokens.

    Attributes:
        is_byte_level: whether each token's are the same even at the beginning of a text.
        special_ids: the tokens that stand for no text, such as the end of text.
    """

    def __init__(self, tokenizer: tokenizers.Tokenizer) -> None:
        """Read how a tokenizer decodes.

        Raises:
            ValueError: in a way that cannot be shown token by token; the message names it.
        """
        kinds = decoder_kinds(tokenizer)
        if unknown := next((kind for kind in kinds if not _streams(kind, kinds)), None):
            raise ValueError(f"its decoder is {unknown}, which cannot be shown token by token")
        self._tokenizer = tokenizer
        self.is_byte_level = kinds == ["ByteLevel"]
        self._byte_fallback = "ByteFallback" in kinds
        added = tokenizer.get_added_tokens_decoder()
        self._added = {number: token.content for number, token in added.items()}
        self.special_ids = frozenset(number for number, token in added.items() if token.special)
        self._anchor = self._find_anchor()
        self._bytes: dict[tuple[int, bool], bytes] = {}  # of the tokens that came so far

    def token_bytes(self, token_id: int, first: bool = False) -> bytes:
        """Return what a token adds to a text, or what one begins with where it is the `first`.

        Special tokens and unknown ids stand for nothing, and what follows them may be the first.
        """
        key = token_id, first and not self.is_byte_level
        found = self._bytes.get(key)
        if found is None:
            found = self._bytes[key] = self._find_bytes(*key)
        return found

    def text_bytes(self, ids: Iterable[int]) -> bytes:
        """Return what the tokens stand for together."""
        whole = bytearray()
        first = True
        for token_id in ids:
            whole += self.token_bytes(token_id, first)
            first = first and not self.is_text(token_id)
        return bytes(whole)

    def is_text(self, token_id: int) -> bool:
        """Whether an id is a token's and not a special one's."""
        return (
            token_id not in self.special_ids and self._tokenizer.id_to_token(token_id) is not None
        )

    def _find_bytes(self, token_id: int, first: bool) -> bytes:
        if not self.is_text(token_id):
            return b""
        token: str = self._tokenizer.id_to_token(token_id)
        if self.is_byte_level:
            return _byte_level(token) if token_id not in self._added else token.encode("utf-8")
        if self._byte_fallback and (byte := _BYTE_TOKEN.fullmatch(token)):
            return bytes.fromhex(byte[1])
        if first:
            return self._decode([token_id]).encode("utf-8")
        before, both = self._decode([self._anchor]), self._decode([self._anchor, token_id])
        return both[len(before) :].encode("utf-8")

    def _decode(self, ids: list[int]) -> str:
        text: str = self._tokenizer.decode(ids, skip_special_tokens=True)
        return text

    def _find_anchor(self) -> int:
        """Return a token to put before another: any that shows."""
        if self.is_byte_level:
            return 0
        for token_id in range(self._tokenizer.get_vocab_size(with_added_tokens=True)):
            if self.is_text(token_id):
                token = self._tokenizer.id_to_token(token_id)
                if not _BYTE_TOKEN.fullmatch(token) and self._decode([token_id]).strip():
                    return token_id
        raise ValueError("it has no token that shows")


def decoder_kinds(tokenizer: tokenizers.Tokenizer) -> list[str]:
    """Return the types of the parts of a tokenizer's decoder, in order; none where it has none."""
    if tokenizer.decoder is None:
        return []
    return _kinds(json.loads(tokenizer.decoder.__getstate__()))


def _kinds(decoder: dict[str, Any]) -> list[str]:
    if decoder["type"] == "Sequence":
        return [kind for part in decoder["decoders"] for kind in _kinds(part)]
    if decoder["type"] == "Strip" and decoder["stop"]:
        return ["Strip at the end"]
    return [str(decoder["type"])]


def _streams(kind: str, kinds: list[str]) -> bool:
    return kind in _SEQUENCE or (kinds == [kind] and kind in ("ByteLevel", "WordPiece"))


def _byte_level(token: str) -> bytes:
    """Return the bytes of a token; one that is no sequence of bytes stands for its own text."""
    try:
        return bytes(_BYTE_OF[character] for character in token)
    except KeyError:
        return token.encode("utf-8")


def _byte_alphabet() -> dict[str, int]:
    """Return GPT-2's map from printable characters to the bytes they stand for.

    As `bytes_to_unicode` of https://github.com/openai/gpt-2/blob/master/src/encoder.py: printable
    bytes stand for themselves, the others for the characters from U+0100 on.
    """
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    characters = {chr(byte): byte for byte in printable}
    return characters | {chr(0x100 + rank): byte for rank, byte in enumerate(others)}


_BYTE_OF = _byte_alphabet()
