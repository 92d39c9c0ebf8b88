"""How well the model predicts a text: log-probabilities, perplexity, bits per byte."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from ..engine.decoder import Decoder, check_largest
from ..errors import OptionError
from ..generation.processors import Logits

ROWS = 8  # of logits at a time: 1.6 MB at GPT-2's vocabulary


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
        """The exponential of the mean negative log-probability of a scored token.

        Infinite where that is above float64's largest number, from 709 nats a token on.
        """
        return perplexity(float(self.log_probs.sum(dtype=np.float64)), len(self.log_probs))

    @property
    def bits_per_byte(self) -> float:
        """Bits that the model needs to write the text, for each of its bytes."""
        return bits_per_byte(float(self.log_probs.sum(dtype=np.float64)), self.bytes)


def perplexity(log_prob: float, tokens: int) -> float:
    """Return the perplexity of so many tokens of that log-probability in all."""
    try:
        return math.exp(-log_prob / tokens)
    except OverflowError:
        return math.inf


def bits_per_byte(log_prob: float, size: int) -> float:
    """Return the bits that so many bytes take; infinite for a text of special tokens alone."""
    return -log_prob / math.log(2) / size if size else math.inf


def checked_stride(stride: int | None, n_positions: int) -> int:
    """Return the stride to use; None stands for half the context.

    Raises:
        OptionError: it is not within the context.
    """
    stride = n_positions // 2 if stride is None else stride
    if not 1 <= stride <= n_positions:
        raise OptionError(f"stride should be between 1 and the context {n_positions}, not {stride}")
    return stride


def windows(
    token_ids: Iterable[int], n_positions: int, stride: int
) -> Iterator[tuple[int, int, list[int]]]:
    """Yield `(begin, first, ids)`: `ids` are those from `begin` on, to score from `first` on.

    The sliding window of https://huggingface.co/docs/transformers/perplexity: every token but the
    first is scored once, with at least `n_positions - stride` tokens before it where the text has
    them. No more than a window is in memory.
    """
    source = iter(token_ids)
    ids: list[int] = []
    kept, begin, first = 0, 0, 1  # ids[0] is the text's token number `kept`
    while True:
        ids += islice(source, begin + n_positions - kept - len(ids))
        end = kept + len(ids)
        if end > first:
            yield kept, first, ids
        if end < begin + n_positions:
            return
        begin, first = begin + stride, end
        # Where windows do not overlap, the last token of one comes before the next one's first.
        ids = ids[min(begin, first - 1) - kept :]
        kept = min(begin, first - 1)


def window_logits(
    new_decoder: Callable[[], Decoder],
    token_ids: Iterable[int],
    n_positions: int,
    stride: int,
) -> Iterator[tuple[Sequence[int], Logits]]:
    """Yield `(targets, logits [len(targets), vocab_size])` over the sliding windows, in order.

    At most a decoder's chunk of rows of logits is in memory at once; one cache serves all windows.
    """
    decoder = new_decoder()
    for begin, first, ids in windows(token_ids, n_positions, stride):
        decoder.rewind(0)
        scored = first - begin
        if scored > 1:
            decoder.prefill(ids[: scored - 1])
        for start in range(scored - 1, len(ids) - 1, decoder.chunk):
            stop = min(start + decoder.chunk, len(ids) - 1)
            yield ids[start + 1 : stop + 1], decoder.score(ids[start:stop])


def target_log_probs(logits: Logits, targets: Sequence[int]) -> NDArray[np.float32]:
    """Return each target's natural log-probability, `[len(targets)]`, by logits of its row.

    The logarithm of the softmax at one place a row; so few rows at a time that what is computed on
    the way fits a processor's cache.
    """
    chosen: NDArray[np.float32] = logits[np.arange(len(targets)), np.asarray(targets)]
    for start in range(0, len(targets), ROWS):
        rows = logits[start : start + ROWS]
        largest = rows.max(axis=-1)
        check_largest(largest)
        shifted = rows - largest[:, None]
        total = np.exp(shifted, out=shifted).sum(axis=-1)
        chosen[start : start + ROWS] -= largest
        chosen[start : start + ROWS] -= np.log(total)
    return chosen


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
        parts.append(target_log_probs(logits, targets))
        done += len(targets)
        if progress:
            progress(done, len(token_ids) - 1)
    return np.concatenate(parts)
