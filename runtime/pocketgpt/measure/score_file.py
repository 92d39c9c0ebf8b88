"""Scoring a file of any size: its tokens are read as the windows need them, and not kept."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import overload

import numpy as np

from ..engine.decoder import Decoder
from ..errors import OptionError
from ..generation.processors import log_softmax
from ..text.tokenizer import Tokenizer
from .score import window_logits

READ_CHARACTERS = 1 << 20


@dataclass(frozen=True)
class FileScore:
    """A file's score: `tokens` are those scored, all but the first; see `Score`."""

    path: str
    tokens: int
    bytes: int
    perplexity: float
    bits_per_byte: float


class TokenFile(Sequence[int]):
    """A text file's tokens, of which only the newest `kept` stay in memory.

    Slices have to come in ascending order, none further back than that.
    """

    def __init__(self, path: Path, tokenizer: Tokenizer, kept: int) -> None:
        """Count the tokens by reading the file once.

        Raises:
            OptionError: the file cannot be read or is not UTF-8.
        """
        self._path = path
        self._tokenizer = tokenizer
        self._kept = kept
        self._length = sum(len(part) for part in self._parts())
        self._reading = self._parts()
        self._first = 0
        self._ids: list[int] = []

    def __len__(self) -> int:
        return self._length

    @overload
    def __getitem__(self, index: int) -> int: ...
    @overload
    def __getitem__(self, index: slice) -> list[int]: ...
    def __getitem__(self, index: int | slice) -> int | list[int]:
        if isinstance(index, int):
            return self[index : index + 1][0]
        start, stop, _ = index.indices(self._length)
        while self._first + len(self._ids) < stop:
            surplus = max(0, len(self._ids) - self._kept)
            self._first += surplus
            self._ids = self._ids[surplus:] + next(self._reading)
        return self._ids[start - self._first : stop - self._first]

    def _parts(self) -> Iterator[list[int]]:
        """Yield the ids of parts of the file that join to the whole file's ids.

        A part ends where white space follows something else: GPT-2's tokens never reach from the
        one into the other.
        """
        rest = ""
        try:
            with self._path.open(encoding="utf-8", newline="") as file:
                while text := file.read(READ_CHARACTERS):
                    rest += text
                    cut = _last_gap(rest)
                    if cut:
                        yield self._tokenizer.encode(rest[:cut])
                        rest = rest[cut:]
        except (OSError, UnicodeDecodeError) as error:
            raise OptionError(f"{self._path} cannot be read: {error}") from None
        yield self._tokenizer.encode(rest)


def score_file(
    path: Path,
    tokenizer: Tokenizer,
    new_decoder: Callable[[], Decoder],
    n_positions: int,
    stride: int,
    progress: Callable[[int, int], None] | None = None,
) -> FileScore:
    """Score a file as `score_ids` scores token ids.

    Raises:
        OptionError: the file cannot be read, is not UTF-8, or has fewer than two tokens.
    """
    token_ids = TokenFile(path, tokenizer, 2 * n_positions)
    if len(token_ids) < 2:
        raise OptionError(
            f"{path} has {len(token_ids)} tokens and cannot be scored: nothing precedes the first"
        )
    total, done = 0.0, 0
    for targets, logits in window_logits(new_decoder, token_ids, n_positions, stride):
        chosen = log_softmax(logits)[np.arange(len(targets)), np.asarray(targets)]
        total += float(chosen.sum(dtype=np.float64))
        done += len(targets)
        if progress:
            progress(done, len(token_ids) - 1)
    size = path.stat().st_size
    return FileScore(str(path), done, size, math.exp(-total / done), -total / math.log(2) / size)


def _last_gap(text: str) -> int:
    """Return the last position at which white space follows something else, or 0."""
    for position in range(len(text) - 1, 0, -1):
        if text[position].isspace() and not text[position - 1].isspace():
            return position
    return 0
