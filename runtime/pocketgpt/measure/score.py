"""How well the model predicts a text: log-probabilities, perplexity, bits per byte."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..engine.decoder import PREFILL_CHUNK, Decoder
from ..errors import OptionError
from ..generation.processors import Logits, log_softmax


@dataclass(frozen=True)
class Score:
    """A text's score.

    `log_probs` are natural log-probabilities of every token but the first, which nothing precedes;
    `bytes` counts the whole text in UTF-8.
    """

    log_probs: NDArray[np.float32]
    bytes: int

    @property
    def perplexity(self) -> float:
        """The exponential of the mean negative log-probability of a scored token."""
        return math.exp(-float(self.log_probs.mean(dtype=np.float64)))

    @property
    def bits_per_byte(self) -> float:
        """Bits that the model needs to write the text, for each of its bytes."""
        return -float(self.log_probs.sum(dtype=np.float64)) / math.log(2) / self.bytes


def checked_stride(stride: int | None, n_positions: int) -> int:
    """Return the stride to use; None stands for half the context.

    Raises:
        OptionError: it is not within the context.
    """
    stride = n_positions // 2 if stride is None else stride
    if not 1 <= stride <= n_positions:
        raise OptionError(f"stride should be between 1 and the context {n_positions}, not {stride}")
    return stride


def windows(length: int, n_positions: int, stride: int) -> Iterator[tuple[int, int, int]]:
    """Yield `(begin, first, end)`: feed tokens `begin:end`, score tokens `first:end`.

    The sliding window of https://huggingface.co/docs/transformers/perplexity: every token but the
    first is scored once, with at least `n_positions - stride` tokens before it where the text has
    them.
    """
    scored = 1
    for begin in range(0, length, stride):
        end = min(begin + n_positions, length)
        if end > scored:
            yield begin, scored, end
        scored = end
        if end == length:
            break


def window_logits(
    new_decoder: Callable[[], Decoder],
    token_ids: Sequence[int],
    n_positions: int,
    stride: int,
    chunk: int = PREFILL_CHUNK,
) -> Iterator[tuple[Sequence[int], Logits]]:
    """Yield `(targets, logits [len(targets), vocab_size])` over the sliding windows, in order.

    At most `chunk` rows of logits are in memory at once.
    """
    for begin, first, end in windows(len(token_ids), n_positions, stride):
        decoder = new_decoder()
        if first - 1 > begin:
            decoder.prefill(token_ids[begin : first - 1])
        for start in range(first - 1, end - 1, chunk):
            stop = min(start + chunk, end - 1)
            yield token_ids[start + 1 : stop + 1], decoder.score(token_ids[start:stop])


def score_ids(
    new_decoder: Callable[[], Decoder],
    token_ids: Sequence[int],
    n_positions: int,
    stride: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> NDArray[np.float32]:
    """Return the natural log-probability of every token but the first, `[len(token_ids) - 1]`.

    Args:
        new_decoder: makes a decoder with an empty cache.
        token_ids: at least two.
        n_positions: the context.
        stride: tokens between two windows' starts; None for half the context.
        progress: called with (tokens scored, tokens in all).

    Raises:
        OptionError: there are fewer than two tokens, or `stride` is not within the context.
    """
    stride = checked_stride(stride, n_positions)
    if len(token_ids) < 2:
        raise OptionError(
            f"a text of {len(token_ids)} tokens cannot be scored: nothing precedes the first token"
        )
    parts: list[NDArray[np.float32]] = []
    done = 0
    for targets, logits in window_logits(new_decoder, token_ids, n_positions, stride):
        parts.append(log_softmax(logits)[np.arange(len(targets)), np.asarray(targets)])
        done += len(targets)
        if progress:
            progress(done, len(token_ids) - 1)
    return np.concatenate(parts)
