"""Token ids in, logits out: one text's forward passes over a session, with its cache."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnxruntime as ort
from numpy.typing import DTypeLike, NDArray

from .cache import KeyValueCache
from .config import ModelConfig

PREFILL_CHUNK = 256  # tokens; skips half of the masked attention of one long pass
_FIRST_CACHE = "past_key_values.0.key"
_DTYPES: dict[str, DTypeLike] = {"tensor(float)": np.float32, "tensor(float16)": np.float16}


class Decoder:
    """Feeds one text to the model, in chunks or token by token.

    Everything is bound to ONNX Runtime in place: a step writes one token id, one position and one
    element of the mask, and binds again only when the cache has grown.
    """

    def __init__(self, session: ort.InferenceSession, config: ModelConfig) -> None:
        """Start an empty text."""
        self._session = session
        self._config = config
        cache_type = next(i.type for i in session.get_inputs() if i.name == _FIRST_CACHE)
        self.cache = KeyValueCache(config, _DTYPES[cache_type])
        self._token = np.zeros((1, 1), np.int64)
        self._position = np.zeros((1, 1), np.int64)
        self._mask = np.zeros((1, 0), np.int64)
        self._logits = np.zeros((1, 1, config.vocab_size), np.float32)
        self._step_binding: ort.IOBinding | None = None

    def prefill(self, token_ids: Sequence[int]) -> NDArray[np.float32]:
        """Append `token_ids`, at least one; return the logits `[1, vocab_size]` after the last.

        The array is this decoder's own and holds until its next call.
        """
        for start in range(0, len(token_ids), PREFILL_CHUNK):
            binding = self._bind_chunk(token_ids[start : start + PREFILL_CHUNK])
            _bind_output(binding, "logits", self._logits)
            self._run_chunk(binding)
        return self._logits[:, 0]

    def score(self, token_ids: Sequence[int]) -> NDArray[np.float32]:
        """Append `token_ids`; return the logits `[tokens, vocab_size]` after each of them."""
        binding = self._bind_chunk(token_ids)
        keep_all = ort.OrtValue.ortvalue_from_numpy(np.array(0, np.int64))
        binding.bind_ortvalue_input("num_logits_to_keep", keep_all)
        binding.bind_output(
            "logits"
        )  # ONNX Runtime allocates: a buffer must have the declared 1 row
        self._run_chunk(binding)
        logits: NDArray[np.float32] = binding.get_outputs()[-1].numpy()[0]
        return logits

    def step(self, token_id: int) -> NDArray[np.float32]:
        """Append one token; return the logits `[1, vocab_size]` after it.

        The array is this decoder's own and holds until its next call.
        """
        position = self.cache.length
        if self.cache.reserve(position + 1) or self._step_binding is None:
            self._bind_step()
        self._token[0, 0] = token_id
        self._position[0, 0] = position
        self._mask[0, position] = 1
        self._session.run_with_iobinding(self._step_binding)
        self.cache.length += 1
        return self._logits[:, 0]

    def _bind_step(self) -> None:
        # The mask is as long as the buffers and zero past the text: its length never changes, so
        # nothing has to be bound again until the cache grows.
        self._mask = np.zeros((1, self.cache.capacity), np.int64)
        self._mask[0, : self.cache.length] = 1
        self._step_binding = self._bind(self._token, self._position, self._mask)
        _bind_output(self._step_binding, "logits", self._logits)

    def _bind_chunk(self, token_ids: Sequence[int]) -> ort.IOBinding:
        start, end = self.cache.length, self.cache.length + len(token_ids)
        self.cache.reserve(end)
        self.cache.length = end
        positions = np.arange(start, end, dtype=np.int64)[None]
        return self._bind(np.array([token_ids], np.int64), positions, np.ones((1, end), np.int64))

    def _run_chunk(self, binding: ort.IOBinding) -> None:
        self._session.run_with_iobinding(binding)
        self._step_binding = None  # the mask it holds is short of the chunk

    def _bind(
        self,
        input_ids: NDArray[np.int64],
        position_ids: NDArray[np.int64],
        attention_mask: NDArray[np.int64],
    ) -> ort.IOBinding:
        binding = self._session.io_binding()
        binding.bind_cpu_input("input_ids", input_ids)
        binding.bind_cpu_input("position_ids", position_ids)
        binding.bind_cpu_input("attention_mask", attention_mask)
        for side, buffers in (("key", self.cache.keys), ("value", self.cache.values)):
            for layer, buffer in enumerate(buffers):
                binding.bind_cpu_input(f"past_key_values.{layer}.{side}", buffer)
                _bind_output(binding, f"present.{layer}.{side}", buffer)
        return binding


def _bind_output(binding: ort.IOBinding, name: str, array: NDArray[np.generic]) -> None:
    binding.bind_output(name, "cpu", 0, array.dtype, array.shape, array.ctypes.data)
