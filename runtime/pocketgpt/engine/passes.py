"""What a decoder asks of a kind of graph: how tokens go through it and into the cache."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Lengths = NDArray[np.int64]
Logits = NDArray[np.float32]


class Passes(Protocol):
    """Forward passes over a cache.

    They fill the cache behind the lengths they are told, and keep no count of their own: a pass
    that fails has changed nothing. What they return is theirs and holds until the next pass.
    """

    @property
    def seconds(self) -> float:
        """How long ONNX Runtime has run in all."""

    @property
    def widest(self) -> int:
        """How many tokens `check` takes behind each of several slots; 1 where it does not."""

    def append(self, token_ids: Sequence[int], slot: int, start: int) -> Logits:
        """Put tokens behind the `start` tokens of a slot; return `[1, vocab_size]` after them."""

    def feed(self, token_ids: Sequence[int], slot: int, start: int) -> None:
        """The same without logits: the head is the largest product of a short chunk."""

    def append_all(self, token_ids: Sequence[int], slot: int, start: int) -> Logits:
        """The same; return `[tokens, vocab_size]`, the logits after every one."""

    def check(self, chunks: Sequence[Sequence[int]], lengths: Lengths) -> list[Logits]:
        """Put a chunk behind each of the first slots; return each one's `[tokens, vocab_size]`."""

    def fill(self, prompts: Sequence[Sequence[int]], first: int) -> Logits:
        """Fill as many slots from `first` on, all empty; return `[prompts, vocab_size]`."""

    def step(self, token_ids: Sequence[int], lengths: Lengths) -> Logits:
        """Put a token behind each of the first slots, as long as told; return `[slots, vocab]`."""

    def settle(self) -> None:
        """See to it that the buffers hold all that was computed: somebody is about to use them."""


def side_by_side(
    prompts: Sequence[Sequence[int]],
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.bool_]]:
    """Return prompts padded on the right: ids, positions, and which of them are a prompt's.

    Each is `[prompts, tokens of the longest]`.
    """
    lengths = np.array([len(prompt) for prompt in prompts])
    positions = np.tile(np.arange(lengths.max()), (len(prompts), 1))
    mask = positions < lengths[:, None]
    token_ids = np.zeros(mask.shape, np.int64)
    token_ids[mask] = np.concatenate(prompts)
    return token_ids, positions, mask
