"""Text to token ids and back, by a folder's tokenizer.json."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import tokenizers

from ..errors import ModelFolderError, OptionError
from ..folder.files import StoredFile, stored
from .detokenizer import Detokenizer

LARGEST_FILE = 1 << 28  # bytes; the largest vocabularies in use take a tenth of it


@dataclass(frozen=True)
class Encoding:
    """A text's ids with their places, special tokens of the post-processor left out.

    `offsets` are the characters `(begin, end)` that a token stands for; `words` count the parts
    that the pre-tokenizer cuts a text into, and added tokens, by token.
    """

    ids: list[int]
    offsets: list[tuple[int, int]]
    words: list[int | None]


class Tokenizer:
    """A folder's `tokenizer.json`: GPT-2's byte-level BPE, or another that `Detokenizer` takes.

    Attributes:
        special_ids: the tokens that stand for no text, such as the end of text.
    """

    def __init__(self, path: Path | StoredFile, vocab_size: int | None = None) -> None:
        """Read `tokenizer.json`.

        Args:
            path: the file.
            vocab_size: how many ids the model knows; `encode` refuses a text with others.

        Raises:
            ModelFolderError: the file is missing or cannot be understood.
        """
        self._path = path
        self._vocab_size = vocab_size
        with self._errors("cannot be read"):
            content = stored(path).read(LARGEST_FILE)
            self._tokenizer = tokenizers.Tokenizer.from_buffer(content)
            self._tokenizer.no_padding()
            self._tokenizer.no_truncation()
            self._detokenizer = Detokenizer(self._tokenizer)
        self.special_ids = self._detokenizer.special_ids

    @property
    def vocab_size(self) -> int:
        """How many tokens there are, added ones included."""
        size: int = self._tokenizer.get_vocab_size(with_added_tokens=True)
        return size

    @property
    def vocabulary(self) -> dict[str, int]:
        """Every token's id, added ones included."""
        tokens: dict[str, int] = self._tokenizer.get_vocab(with_added_tokens=True)
        return tokens

    @property
    def kind(self) -> str:
        """What kind of model it is: BPE, WordPiece, Unigram or WordLevel."""
        return type(self._tokenizer.model).__name__

    @property
    def is_byte_level(self) -> bool:
        """Whether every token stands for bytes, wherever it comes."""
        return self._detokenizer.is_byte_level

    def to_json(self) -> str:
        """Return what `tokenizer.json` says, for other libraries to read."""
        text: str = self._tokenizer.to_str()
        return text

    def encode(self, text: str, *, add_special_tokens: bool = True) -> list[int]:
        """Return the text's token ids; special tokens written out in the text become their ids.

        Args:
            text: what to encode.
            add_special_tokens: whether to add what the file's post-processor puts around a text,
                a BOS for one. GPT-2's puts nothing.

        Raises:
            OptionError: the text holds a lone surrogate, which is no character, or a token that the
                model does not know.
            ModelFolderError: the tokenizer cannot encode this text.
        """
        ids: list[int] = self._encode(text, add_special_tokens).ids
        return ids

    def encode_words(self, text: str) -> Encoding:
        """Return the text's ids with their places; errors are those of `encode`."""
        encoded = self._encode(text, False)
        return Encoding(encoded.ids, encoded.offsets, encoded.word_ids)

    def _encode(self, text: str, add_special_tokens: bool) -> tokenizers.Encoding:
        try:
            text.encode("utf-8")
        except UnicodeEncodeError as error:
            raise OptionError(
                f"the text holds a lone surrogate (U+{ord(text[error.start]):04X}) at character "
                f"{error.start}, which no encoding can write; remove it"
            ) from None
        with self._errors("cannot encode this text"):
            encoded = self._tokenizer.encode(text, add_special_tokens=add_special_tokens)
            ids = encoded.ids
        if self._vocab_size is not None and ids and max(ids) >= self._vocab_size:
            raise OptionError(
                f"the text holds the token {self._tokenizer.id_to_token(max(ids))!r} of id "
                f"{max(ids)}, outside the model's vocabulary of {self._vocab_size}; remove it"
            )
        return encoded

    @cached_property
    def longest_added_token(self) -> int:
        """Characters of the longest added token, 0 where there is none."""
        added = self._tokenizer.get_added_tokens_decoder().values()
        return max((len(token.content) for token in added), default=0)

    @cached_property
    def is_plain_bpe(self) -> bool:
        """Whether ids are those of a BPE's merges alone, without unknown tokens or affixes."""
        model = self._tokenizer.model
        return isinstance(model, tokenizers.models.BPE) and not (
            model.dropout
            or model.unk_token
            or model.continuing_subword_prefix
            or model.end_of_word_suffix
            or model.byte_fallback
            or model.ignore_merges
        )

    @cached_property
    def frame(self) -> tuple[list[int], list[int]]:
        """The ids that `add_special_tokens` puts before and behind a text."""
        text = next((text for text in self._probes() if self._has_tokens(text)), "")
        with self._errors("cannot encode a text"):
            framed = self._tokenizer.encode(text, add_special_tokens=True)
        own = [place for place, part in enumerate(framed.sequence_ids) if part is not None]
        first, last = (own[0], own[-1]) if own else (len(framed.ids), len(framed.ids))
        return framed.ids[:first], framed.ids[last + 1 :]

    def _has_tokens(self, text: str) -> bool:
        """Whether a text can be encoded, and not to nothing."""
        try:
            return bool(self.encode_words(text).ids)
        except (ModelFolderError, OptionError):  # it has no token for what is unknown
            return False

    def _probes(self) -> Iterator[str]:
        """Yield texts of which the vocabulary should have one."""
        yield "a"
        for token_id in range(self.vocab_size):
            yield self._detokenizer.token_bytes(token_id, first=True).decode("utf-8", "ignore")

    def decode(self, ids: Iterable[int]) -> str:
        """Return the ids' text without special tokens; bytes that are no UTF-8 become U+FFFD."""
        with self._errors("cannot decode"):
            return self._detokenizer.text_bytes(ids).decode("utf-8", "replace")

    @contextmanager
    def _errors(self, failed: str) -> Iterator[None]:
        """Turn whatever tokenizers raises into one line that names the file."""
        try:
            yield
        except BaseException as error:  # tokenizers raises plain Exception; Rust's panics not even
            if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
                raise
            reason = " ".join(str(error).split())
            raise ModelFolderError(f"{self._path} {failed}: {reason}") from None

    def token_bytes(self, token_id: int, first: bool = False) -> bytes:
        """Return what a token adds to a text, or what one begins with where it is the `first`.

        Special tokens and unknown ids stand for nothing.
        """
        return self._detokenizer.token_bytes(token_id, first)

    def name(self, token_id: int) -> str | None:
        """Return a token as `tokenizer.json` writes it; None where the id is no token's."""
        name: str | None = self._tokenizer.id_to_token(token_id)
        return name

    def is_text(self, token_id: int) -> bool:
        """Whether an id is a token's and not a special one's."""
        return self._detokenizer.is_text(token_id)
