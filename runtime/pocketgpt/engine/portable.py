"""Decoding a graph of standard operators, whose cache comes back as new arrays from every pass."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from .decoder import PREFILL_CHUNK, Decoder, PrefillCancelledError


class PortableDecoder(Decoder):
    """Feeds `batch_size` texts to a `portable` graph.

    What `Decoder` is for the `fused` graph, which appends to its cache in place: here the filled
    part of the cache goes into every pass, and what is new in the output is copied back. New tokens
    stand behind the longest row's past, and the mask leaves out what lies between.
    """

    def prefill(
        self, token_ids: Sequence[int], row: int = 0, cancelled: Callable[[], bool] = bool
    ) -> NDArray[np.float32]:
        """Append `token_ids`, at least one, to a row; return `[1, vocab_size]` after the last.

        Raises:
            PrefillCancelledError: `cancelled` said so before a chunk.
        """
        rows = slice(row, row + 1)
        for start in range(0, len(token_ids), PREFILL_CHUNK):
            if cancelled():
                raise PrefillCancelledError
            logits = self._pass([token_ids[start : start + PREFILL_CHUNK]], rows)
            self._logits[rows, 0] = logits[:, -1]
        return self._logits[rows, 0]

    def score(self, token_ids: Sequence[int]) -> NDArray[np.float32]:
        """Append `token_ids` to the only row; return `[tokens, vocab_size]` after each of them."""
        logits: NDArray[np.float32] = self._pass([token_ids], slice(0, 1))[0]
        return logits

    def step(self, token_ids: int | Sequence[int]) -> NDArray[np.float32]:
        """Append one token to every row; return the logits `[batch_size, vocab_size]` after it."""
        self._tokens[:, 0] = token_ids
        everyone = slice(0, self.cache.batch_size)
        self._logits[:] = self._pass(self._tokens.tolist(), everyone)
        return self._logits[:, 0]

    def _prefill_together(self, prompts: Sequence[Sequence[int]], rows: slice) -> None:
        logits = self._pass(prompts, rows)
        last = [len(prompt) - 1 for prompt in prompts]
        self._logits[rows, 0] = logits[np.arange(len(prompts)), last]

    def _pass(self, token_ids: Sequence[Sequence[int]], rows: slice) -> NDArray[np.float32]:
        """Append to each of `rows` its tokens; return `[rows, most tokens, vocab_size]`."""
        before = self.cache.lengths[rows].copy()
        counts = np.array([len(ids) for ids in token_ids])
        past, columns = int(before.max()), np.arange(counts.max())
        given = columns < counts[:, None]
        padded = np.zeros(given.shape, np.int64)
        padded[given] = np.concatenate(token_ids)
        mask = np.concatenate([np.arange(past) < before[:, None], given], axis=1)
        feeds: dict[str, NDArray[np.generic]] = {
            "input_ids": padded,
            "attention_mask": mask.astype(np.int64),
            "position_ids": np.where(given, before[:, None] + columns, 0),
        }
        self.cache.reserve(int((before + counts).max()))
        layers = range(self._config.n_layer)
        names = [f"{layer}.{side}" for side in ("key", "value") for layer in layers]
        buffers = [buffer[rows] for buffer in (*self.cache.keys, *self.cache.values)]
        for name, buffer in zip(names, buffers, strict=True):
            feeds[f"past_key_values.{name}"] = np.ascontiguousarray(buffer[:, :, :past])
        outputs = ["logits", *(f"present.{name}" for name in names)]
        logits, *present = self._session.run(outputs, feeds)
        for buffer, grown in zip(buffers, present, strict=True):
            for row, (start, count) in enumerate(zip(before, counts, strict=True)):
                buffer[row, :, start : start + count] = grown[row, :, past : past + count]
        self.cache.lengths[rows] = before + counts
        self.evaluated_tokens += int(counts.sum())
        found: NDArray[np.float32] = logits
        return found
