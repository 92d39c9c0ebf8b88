"""Text to token ids and back, and text from ids one at a time without half a character."""

from __future__ import annotations

import codecs
from collections.abc import Iterable
from pathlib import Path

import tokenizers

from ..errors import ModelFolderError, OptionError


class Tokenizer:
    """A folder's `tokenizer.json`, a byte-level BPE as every GPT-2 has.

    Attributes:
        special_ids: the tokens that stand for no text, such as the end of text.
    """

    def __init__(self, path: Path) -> None:
        """Read `tokenizer.json`.

        Raises:
            ModelFolderError: the file is missing or cannot be understood.
        """
        try:
            self._tokenizer = tokenizers.Tokenizer.from_file(str(path))
        except Exception as error:  # tokenizers raises plain Exception
            raise ModelFolderError(f"{path} cannot be read: {error}") from None
        self._tokenizer.no_padding()
        self._tokenizer.no_truncation()
        added = self._tokenizer.get_added_tokens_decoder()
        self._bytes: dict[int, bytes] = {}  # of the tokens that came so far
        self.special_ids = frozenset(number for number, token in added.items() if token.special)

    @property
    def vocab_size(self) -> int:
        """How many tokens there are, added ones included."""
        size: int = self._tokenizer.get_vocab_size(with_added_tokens=True)
        return size

    def to_json(self) -> str:
        """Return what `tokenizer.json` says, for other libraries to read."""
        text: str = self._tokenizer.to_str()
        return text

    def encode(self, text: str) -> list[int]:
        """Return the text's token ids; special tokens written out in the text become their ids.

        Raises:
            OptionError: the text holds a lone surrogate, which is no character.
        """
        try:
            text.encode("utf-8")
        except UnicodeEncodeError as error:
            raise OptionError(
                f"the text holds a lone surrogate (U+{ord(text[error.start]):04X}) at character "
                f"{error.start}, which no encoding can write; remove it"
            ) from None
        ids: list[int] = self._tokenizer.encode(text).ids
        return ids

    def decode(self, ids: Iterable[int]) -> str:
        """Return the ids' text without special tokens; bytes that are no UTF-8 become U+FFFD."""
        text: str = self._tokenizer.decode(list(ids), skip_special_tokens=True)
        return text

    def token_bytes(self, token_id: int) -> bytes:
        """Return the bytes a token stands for; special tokens and unknown ids stand for none."""
        found = self._bytes.get(token_id)
        if found is None:
            found = self._bytes[token_id] = self._find_bytes(token_id)
        return found

    def _find_bytes(self, token_id: int) -> bytes:
        token = self._tokenizer.id_to_token(token_id)
        if token is None or token_id in self.special_ids:
            return b""
        try:
            return bytes(_BYTE_OF[character] for character in token)
        except KeyError:  # an added token, kept as plain text
            return bytes(token, "utf-8")


class TextStream:
    """Text from token ids as they come: whole characters, as soon as they are whole.

    The pieces joined equal `Tokenizer.decode` of all ids.
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
