"""Token ids in, logits out: forward passes of one text or several over a session, with a cache."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import onnxruntime as ort
from numpy.typing import DTypeLike, NDArray

from ..folder.config import ModelConfig
from .cache import KeyValueCache

PREFILL_CHUNK = 256  # tokens; skips half of the masked attention of one long pass
PREFILL_TOGETHER = 1024  # tokens, padding included, that several rows' one pass may have
_FIRST_CACHE = "past_key_values.0.key"
_DTYPES: dict[str, DTypeLike] = {"tensor(float)": np.float32, "tensor(float16)": np.float16}


class PrefillCancelledError(Exception):
    """A prefill was told to stop between two chunks."""


class Decoder:
    """Feeds `batch_size` texts to the model, in chunks or token by token.

    Everything is bound to ONNX Runtime in place: a step writes one token id, one position and one
    element of the mask per row, and binds again only when the cache has grown or lost rows. Arrays
    that it returns are its own and hold until its next call.

    Attributes:
        cache: the rows' keys and values.
        evaluated_tokens: how many tokens it has run through the model so far.
    """

    def __init__(
        self, session: ort.InferenceSession, config: ModelConfig, batch_size: int = 1
    ) -> None:
        """Start with empty texts."""
        self._session = session
        self._config = config
        cache_type = next(i.type for i in session.get_inputs() if i.name == _FIRST_CACHE)
        self.cache = KeyValueCache(config, _DTYPES[cache_type], batch_size)
        self.evaluated_tokens = 0
        self._rows = np.arange(batch_size)
        self._tokens = np.zeros((batch_size, 1), np.int64)
        self._positions = np.zeros((batch_size, 1), np.int64)
        self._mask = np.zeros((batch_size, 0), np.int64)
        self._logits = np.zeros((batch_size, 1, config.vocab_size), np.float32)
        self._step_binding: ort.IOBinding | None = None
        self._room = 0  # steps until the cache has to grow

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
            binding = self._bind_chunk(token_ids[start : start + PREFILL_CHUNK], row)
            _bind_output(binding, "logits", self._logits[rows])
            self._run_chunk(binding)
        return self._logits[rows, 0]

    def prefill_rows(
        self, prompts: Sequence[Sequence[int]], cancelled: Callable[[], bool] = bool
    ) -> NDArray[np.float32]:
        """Fill every row, all empty, with its prompt; return `[batch_size, vocab_size]`.

        Short prompts go in one pass, padded on the right; a long one goes alone, in chunks.

        Raises:
            PrefillCancelledError: `cancelled` said so before a pass.
        """
        first = 0
        while first < len(prompts):
            end = first + 1
            longest = len(prompts[first])
            while end < len(prompts):
                longest = max(longest, len(prompts[end]))
                if (end + 1 - first) * longest > PREFILL_TOGETHER:
                    break
                end += 1
            if end - first == 1:
                self.prefill(prompts[first], first, cancelled)
            elif cancelled():
                raise PrefillCancelledError
            else:
                self._prefill_together(prompts[first:end], slice(first, end))
            first = end
        return self._logits[:, 0]

    def score(self, token_ids: Sequence[int]) -> NDArray[np.float32]:
        """Append `token_ids` to the only row; return `[tokens, vocab_size]` after each of them."""
        binding = self._bind_chunk(token_ids, 0)
        keep_all = ort.OrtValue.ortvalue_from_numpy(np.array(0, np.int64))
        binding.bind_ortvalue_input("num_logits_to_keep", keep_all)
        # ONNX Runtime allocates: a buffer must have the one row that is declared.
        binding.bind_output("logits")
        self._run_chunk(binding)
        logits: NDArray[np.float32] = binding.get_outputs()[-1].numpy()[0]
        return logits

    def step(self, token_ids: int | Sequence[int]) -> NDArray[np.float32]:
        """Append one token to every row; return the logits `[batch_size, vocab_size]` after it."""
        lengths = self.cache.lengths
        if self._step_binding is None or not self._room:
            self.cache.reserve(self.cache.length + 1)
            self._bind_step()
        self._tokens[:, 0] = token_ids
        self._positions[:, 0] = lengths
        self._mask[self._rows, lengths] = 1
        self._session.run_with_iobinding(self._step_binding)
        lengths += 1
        self._room -= 1
        self.evaluated_tokens += len(lengths)
        return self._logits[:, 0]

    def keep_rows(self, rows: Sequence[int]) -> None:
        """Drop all rows but `rows`, which ascend; row `rows[i]` becomes row i."""
        self.cache.keep_rows(rows)
        count = len(rows)
        self._rows = self._rows[:count]
        self._tokens, self._positions = self._tokens[:count], self._positions[:count]
        self._logits = self._logits[:count]
        self._step_binding = None

    def copy_row(self, source: int, target: int, start: int = 0) -> None:
        """Make row `target` equal to row `source`, where the first `start` tokens are the same."""
        before = self.cache.lengths[target]
        self.cache.copy_row(source, target, start)
        if before != self.cache.lengths[target]:
            self._step_binding = None

    def rewind(self, length: int, row: int = 0) -> None:
        """Forget a row's tokens from `length` on."""
        self.cache.lengths[row] = length
        self._step_binding = None  # the mask it holds is longer

    def fork(self) -> Decoder:
        """Return a decoder of its own with the same texts."""
        twin = type(self)(self._session, self._config, self.cache.batch_size)
        twin.cache = self.cache.copy()
        return twin

    def _prefill_together(self, prompts: Sequence[Sequence[int]], rows: slice) -> None:
        lengths = np.array([len(prompt) for prompt in prompts])
        self.cache.reserve(int(lengths.max()))
        positions = np.broadcast_to(np.arange(lengths.max()), (len(prompts), lengths.max()))
        mask = positions < lengths[:, None]
        token_ids = np.zeros(mask.shape, np.int64)
        token_ids[mask] = np.concatenate(prompts)
        binding = self._bind(
            token_ids, np.ascontiguousarray(positions), mask.astype(np.int64), rows
        )
        _bind_output(binding, "logits", self._logits[rows])
        self._run_chunk(binding)
        self.cache.lengths[rows] = lengths
        self.evaluated_tokens += int(lengths.sum())

    def _bind_step(self) -> None:
        # The mask is as long as the buffers and zero past the text: its length never changes, so
        # nothing has to be bound again until the cache grows.
        self._room = self.cache.capacity - self.cache.length
        positions = np.arange(self.cache.capacity)
        self._mask = (positions < self.cache.lengths[:, None]).astype(np.int64)
        everyone = slice(0, self.cache.batch_size)
        self._step_binding = self._bind(self._tokens, self._positions, self._mask, everyone)
        _bind_output(self._step_binding, "logits", self._logits)

    def _bind_chunk(self, token_ids: Sequence[int], row: int) -> ort.IOBinding:
        start = int(self.cache.lengths[row])
        end = start + len(token_ids)
        self.cache.reserve(end)
        self.cache.lengths[row] = end
        self.evaluated_tokens += len(token_ids)
        positions = np.arange(start, end, dtype=np.int64)[None]
        mask = np.ones((1, end), np.int64)
        return self._bind(np.array([token_ids], np.int64), positions, mask, slice(row, row + 1))

    def _run_chunk(self, binding: ort.IOBinding) -> None:
        self._session.run_with_iobinding(binding)
        self._step_binding = None  # the mask it holds is short of the chunk

    def _bind(
        self,
        input_ids: NDArray[np.int64],
        position_ids: NDArray[np.int64],
        attention_mask: NDArray[np.int64],
        rows: slice,
    ) -> ort.IOBinding:
        binding = self._session.io_binding()
        binding.bind_cpu_input("input_ids", input_ids)
        binding.bind_cpu_input("position_ids", position_ids)
        binding.bind_cpu_input("attention_mask", attention_mask)
        for side, buffers in (("key", self.cache.keys), ("value", self.cache.values)):
            for layer, buffer in enumerate(buffers):
                binding.bind_cpu_input(f"past_key_values.{layer}.{side}", buffer[rows])
                _bind_output(binding, f"present.{layer}.{side}", buffer[rows])
        return binding


def _bind_output(binding: ort.IOBinding, name: str, array: NDArray[np.generic]) -> None:
    binding.bind_output(name, "cpu", 0, array.dtype, array.shape, array.ctypes.data)
