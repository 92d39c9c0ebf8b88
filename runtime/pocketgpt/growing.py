"""Decoding a graph of standard operators: its cache comes back one longer each time."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from .config import ModelConfig
from .decoder import PREFILL_CHUNK, Decoder


class GrowingDecoder(Decoder):
    """Feeds one text to a `portable` graph, in chunks or token by token.

    What `Decoder` is for the `fused` graph, which appends to its cache in place: here every pass
    concatenates past and present into new arrays.
    """

    def __init__(self, session: ort.InferenceSession, config: ModelConfig) -> None:
        """Start an empty text."""
        self._session = session
        names = [f"{i}.{side}" for i in range(config.n_layer) for side in ("key", "value")]
        self._past_names = [f"past_key_values.{name}" for name in names]
        self._outputs = ["logits", *(f"present.{name}" for name in names)]
        empty = np.zeros((1, config.n_head, 0, config.head_dim), np.float32)
        self._cache: list[NDArray[np.float32]] = [empty] * len(names)
        self._length = 0

    def prefill(self, token_ids: Sequence[int]) -> NDArray[np.float32]:
        """Append `token_ids`, at least one; return the logits `[1, vocab_size]` after the last."""
        for start in range(0, len(token_ids), PREFILL_CHUNK):
            logits = self.score(token_ids[start : start + PREFILL_CHUNK])
        return logits[-1:]

    def score(self, token_ids: Sequence[int]) -> NDArray[np.float32]:
        """Append `token_ids`; return the logits `[tokens, vocab_size]` after each of them."""
        start, end = self._length, self._length + len(token_ids)
        feeds: dict[str, NDArray[np.generic]] = {
            "input_ids": np.array([token_ids], np.int64),
            "attention_mask": np.ones((1, end), np.int64),
            "position_ids": np.arange(start, end)[None],
            **dict(zip(self._past_names, self._cache, strict=True)),
        }
        logits, *self._cache = self._session.run(self._outputs, feeds)
        self._length = end
        rows: NDArray[np.float32] = logits[0]
        return rows

    def step(self, token_id: int) -> NDArray[np.float32]:
        """Append one token; return the logits `[1, vocab_size]` after it."""
        return self.score([token_id])
