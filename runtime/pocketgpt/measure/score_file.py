"""Scoring a file of any size, or a pipe: its tokens are read as the windows need them."""

from __future__ import annotations

import codecs
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np

from ..engine.decoder import Decoder
from ..errors import OptionError
from ..text.encode_stream import encode_stream
from ..text.tokenizer import Tokenizer
from .score import bits_per_byte, perplexity, target_log_probs, window_logits

TextFile = str | os.PathLike[str] | BinaryIO


@dataclass(frozen=True)
class FileScore:
    """A file's score: `tokens` are those scored, all but the first; see `Score`."""

    path: str
    tokens: int
    bytes: int
    perplexity: float
    bits_per_byte: float


class _FileTokens:
    """A UTF-8 file's token ids, to iterate over once.

    Attributes:
        tokens: how many were read so far.
        bytes: how many bytes of the file they took.
    """

    def __init__(self, file: BinaryIO, tokenizer: Tokenizer) -> None:
        self.tokens = self.bytes = 0
        self._file = file
        self._tokenizer = tokenizer
        self._decoder = codecs.getincrementaldecoder("utf-8")()
        self._ended = False
        status = os.fstat(file.fileno()) if _has_a_number(file) else None
        plain = status is not None and stat.S_ISREG(status.st_mode)
        self._size = status.st_size if status and plain else None

    def __iter__(self) -> Iterator[int]:
        for ids in encode_stream(self._tokenizer, self._read):
            self.tokens += len(ids)
            yield from ids
        self._ended = True

    @property
    def expected(self) -> int:
        """How many tokens there will be: by the share of the file that is read, where it is known.

        Exact once all is read; of a pipe what is read so far.
        """
        if self._ended or not self._size or not self.bytes:
            return self.tokens
        return max(self.tokens, self.tokens * self._size // self.bytes)

    def _read(self, characters: int) -> str:
        while content := self._file.read(characters):
            self.bytes += len(content)
            if text := self._decoder.decode(content):
                return text
        return self._decoder.decode(b"", final=True)


def score_file(
    file: TextFile,
    tokenizer: Tokenizer,
    new_decoder: Callable[[], Decoder],
    n_positions: int,
    stride: int,
    progress: Callable[[int, int], None] | None = None,
) -> FileScore:
    """Score a file, by its path or opened in binary, as `score_ids` scores its whole text's ids.

    It is read once, from its beginning or where it stands, so it may be a pipe. `progress` is
    called with (tokens scored, tokens in all, estimated until the file is read).

    Raises:
        OptionError: the file cannot be read, is not UTF-8, or has fewer than two tokens.
    """
    name = _name(file)
    total, done = 0.0, 0
    try:
        with _opened(file) as opened:
            token_ids = _FileTokens(opened, tokenizer)
            for targets, logits in window_logits(new_decoder, token_ids, n_positions, stride):
                total += float(target_log_probs(logits, targets).sum(dtype=np.float64))
                done += len(targets)
                if progress:
                    progress(done, token_ids.expected - 1)
    except OptionError as error:
        raise OptionError(f"{name}: {error}") from None
    except (OSError, ValueError) as error:  # no UTF-8, no name for a file, closed
        raise OptionError(f"{name} cannot be read: {error}") from None
    if not done:
        raise OptionError(
            f"{name} has {token_ids.tokens} tokens and cannot be scored: nothing precedes the first"
        )
    size = token_ids.bytes
    return FileScore(name, done, size, perplexity(total, done), bits_per_byte(total, size))


def _opened(file: TextFile) -> AbstractContextManager[BinaryIO]:
    if isinstance(file, (str, os.PathLike)):
        return Path(file).open("rb")
    return nullcontext(file)


def _name(file: TextFile) -> str:
    """Return what to call a file: its path, or the name it was opened by."""
    return (
        os.fspath(file)
        if isinstance(file, (str, os.PathLike))
        else str(getattr(file, "name", "standard input"))
    )


def _has_a_number(file: BinaryIO) -> bool:
    """Tell whether the system knows a file; one in memory has no number."""
    try:
        file.fileno()
    except (OSError, AttributeError):
        return False
    return True
