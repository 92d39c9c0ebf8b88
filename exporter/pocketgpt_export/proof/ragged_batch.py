"""A ragged batch through a graph, right-padded, for the proof alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pocketgpt.engine import contract
from pocketgpt.engine.graph import Graph

from .reference import Logits


class Batch:
    """Rows of different lengths: prompts at once, then one token each at a time.

    Nothing is bound in place here: what this shows is the graph's, not the runtime's.
    """

    def __init__(self, graph: Graph, pad_token_id: int) -> None:
        """Start without rows; `pad_token_id` fills the short ones, and may be any id."""
        self._graph = graph
        self._config = graph.config
        self._pad = pad_token_id
        self._portable = graph.contract.kind == "portable"
        self._lengths = np.zeros(0, np.int64)
        self._mask = np.zeros((0, 0), np.int64)
        self._cache: list[NDArray[np.float32]] = []

    def prefill(self, rows: Sequence[Sequence[int]]) -> Logits:
        """Feed the prompts; return the logits `[rows, vocab_size]` after each row's last token."""
        config = self._config
        self._lengths = np.array([len(row) for row in rows])
        longest = int(self._lengths.max())
        padded = [[*row, *[self._pad] * (longest - len(row))] for row in rows]
        empty = np.zeros((len(rows), config.n_head, 0, config.head_dim), np.float32)
        self._cache = [empty] * (2 * config.n_layer)
        self._mask = self._tokens_first()
        positions = np.tile(np.arange(longest), (len(rows), 1))
        logits = self._run(np.array(padded), positions)
        last = self._lengths - 1 if logits.shape[1] > 1 else 0  # portable gives them all
        found: Logits = logits[np.arange(len(rows)), last]
        return found

    def step(self, token_ids: Sequence[int]) -> Logits:
        """Feed every row one more token; return the logits `[rows, vocab_size]` after it."""
        positions = self._lengths[:, None].copy()
        self._lengths += 1
        if self._portable:  # there the pads stay where they are, and tokens follow them
            one = np.ones_like(positions)
            self._mask = np.concatenate([self._mask, one], axis=1)
        else:
            self._mask = self._tokens_first()
        return self._run(np.array(token_ids)[:, None], positions)[:, 0]

    def _tokens_first(self) -> NDArray[np.int64]:
        mask = np.arange(self._lengths.max())[None] < self._lengths[:, None]
        return mask.astype(np.int64)

    def _run(self, input_ids: NDArray[np.int64], positions: NDArray[np.int64]) -> Logits:
        feeds: dict[str, NDArray[Any]] = {
            contract.INPUT_IDS: input_ids,
            contract.POSITION_IDS: positions,
            contract.ATTENTION_MASK: self._mask,
        }
        n_layer = self._config.n_layer
        feeds |= zip(contract.past_names(n_layer), self._cache, strict=True)
        logits, *self._cache = self._graph.run(contract.output_names(n_layer), feeds)
        found: Logits = logits
        return found
