"""Passes over a fused graph, which appends to its cache in place."""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from ..folder.config import ModelConfig
from .adapters import Adapter
from .buffers import HostBuffers
from .contract import (
    ATTENTION_MASK,
    INPUT_IDS,
    LOGITS,
    MOST_IN_PLACE,
    NUM_LOGITS_TO_KEEP,
    POSITION_IDS,
    QUERY_LENGTHS,
    check_every,
)
from .ort_session import run_bound
from .passes import Lengths, Logits, side_by_side

MOST_CHECKED = 256  # tokens of a row: each takes a row of logits


NO_TOKEN = np.array(-1, np.int64)  # what to override `num_logits_to_keep` by to get no logits


class FusedPasses:
    """Everything a step needs is bound once: it writes a token, a position and a bit of a mask.

    The mask is as long as the buffers and zero past the text, so its length never changes; what is
    bound holds until the buffers move, for each number of slots that is stepped.
    """

    def __init__(
        self,
        session: ort.InferenceSession,
        config: ModelConfig,
        cache: HostBuffers,
        adapter: Adapter | None = None,
        *,
        ragged: bool = False,
    ) -> None:
        self.seconds = 0.0
        self.widest = (MOST_IN_PLACE if cache.dtype == np.int8 else MOST_CHECKED) if ragged else 1
        self._session = session
        self._config = config
        self._cache = cache
        self._adapter = adapter
        self._tokens = np.zeros((cache.slots, 1), np.int64)
        self._positions = np.zeros((cache.slots, 1), np.int64)
        self._mask = np.zeros((cache.slots, 0), np.int64)
        self._masked = np.zeros(cache.slots, np.int64)  # ones in each row of the mask
        self._logits = np.zeros((cache.slots, 1, config.n_logits), np.float32)
        self._steps: dict[int, ort.IOBinding] = {}
        self._rows = np.arange(cache.slots)

    def append(self, token_ids: Sequence[int], slot: int, start: int) -> Logits:
        binding = self._bind_chunk(token_ids, slot, start)
        logits = self._logits[slot : slot + 1]
        bind_logits(binding, logits)
        self._run(binding)
        self._keep(binding, len(token_ids), slot, start)
        return logits[:, 0]

    def feed(self, token_ids: Sequence[int], slot: int, start: int) -> None:
        binding = self._bind_chunk(token_ids, slot, start)
        binding.bind_ortvalue_input(NUM_LOGITS_TO_KEEP, ort.OrtValue.ortvalue_from_numpy(NO_TOKEN))
        self._run_for_any(binding)
        self._keep(binding, len(token_ids), slot, start)

    def append_all(self, token_ids: Sequence[int], slot: int, start: int) -> Logits:
        binding = self._bind_chunk(token_ids, slot, start)
        binding.bind_ortvalue_input(NUM_LOGITS_TO_KEEP, every_token())
        logits: Logits = self._run_for_all(binding, len(token_ids))[0]
        self._keep(binding, len(token_ids), slot, start)
        return logits

    def check(self, chunks: Sequence[Sequence[int]], lengths: Lengths) -> list[Logits]:
        token_ids, columns, real = side_by_side(chunks)
        sizes = real.sum(axis=1)
        self._reserve(int(lengths.max()) + real.shape[1])  # attention has no room for less
        positions = np.where(real, lengths[:, None] + columns, 0)
        mask = np.arange(self._cache.capacity) < (lengths + sizes)[:, None]
        binding = self._bind(token_ids, positions, mask.astype(np.int64), 0, len(chunks), sizes)
        binding.bind_ortvalue_input(NUM_LOGITS_TO_KEEP, every_token())
        logits = self._run_for_all(binding, real.shape[1])
        return [row[:size] for row, size in zip(logits, sizes.tolist(), strict=True)]

    def fill(self, prompts: Sequence[Sequence[int]], first: int) -> Logits:
        token_ids, positions, mask = side_by_side(prompts)
        self._reserve(mask.shape[1])
        last = first + len(prompts)
        sizes = mask.sum(axis=1)
        binding = self._bind(token_ids, positions, mask.astype(np.int64), first, last, sizes)
        logits = self._logits[first:last]
        bind_logits(binding, logits)
        self._run(binding)
        self._keep(binding, mask.shape[1], first, 0)
        return logits[:, 0]

    def step(self, token_ids: Sequence[int], lengths: Lengths) -> Logits:
        count = len(lengths)
        self._reserve(int(lengths.max()) + 1)
        binding = self._steps.get(count) or self._bind_step(count)
        if (self._masked[:count] != lengths).any():
            self._mend_mask(lengths)
        self._tokens[:count, 0] = token_ids
        self._positions[:count, 0] = lengths
        self._mask[self._rows[:count], lengths] = 1
        self._masked[:count] += 1
        self._run(binding)
        return self._logits[:count, 0]

    def settle(self) -> None:
        pass

    def _run(self, binding: ort.IOBinding) -> None:
        begin = time.perf_counter()
        run_bound(self._session, binding)
        self.seconds += time.perf_counter() - begin

    def _run_for_all(self, binding: ort.IOBinding, tokens: int) -> Logits:
        """Run for the logits after every token: `[rows, tokens, vocab_size]`."""
        logits = self._run_for_any(binding)
        check_every(logits, tokens)
        return logits

    def _run_for_any(self, binding: ort.IOBinding) -> Logits:
        """Run for as many logits as are asked for: `[rows, so many, vocab_size]`."""
        # ONNX Runtime allocates: a buffer must have the one row that is declared.
        binding.bind_output(LOGITS)
        self._run(binding)
        logits: Logits = binding.get_outputs()[-1].numpy()
        return logits

    def _in_place(self, tokens: int) -> bool:
        """Whether so many tokens of a row are appended to the buffers by the graph itself."""
        return self._cache.dtype != np.int8 or tokens <= MOST_IN_PLACE

    def _keep(self, binding: ort.IOBinding, tokens: int, first: int, start: int) -> None:
        """Put what a pass over `tokens` a row computed into the cache, where it is not there."""
        if not self._in_place(tokens):
            new = binding.get_outputs()[: 2 * self._config.n_layer]
            self._cache.put(first, start, [value.numpy() for value in new])

    def _reserve(self, tokens: int) -> None:
        self._cache.reserve(tokens)
        if self._mask.shape[1] != self._cache.capacity:  # the buffers moved, whoever asked for it
            self._mask = np.zeros((self._cache.slots, self._cache.capacity), np.int64)
            self._masked[:] = 0
            self._steps.clear()

    def _mend_mask(self, lengths: Lengths) -> None:
        """Let the mask's rows of the slots whose texts were changed say how long they are."""
        columns = np.arange(self._cache.capacity)
        for slot in np.flatnonzero(self._masked[: len(lengths)] != lengths):
            self._mask[slot] = columns < lengths[slot]
            self._masked[slot] = lengths[slot]

    def _bind_step(self, count: int) -> ort.IOBinding:
        binding = self._bind(
            self._tokens[:count], self._positions[:count], self._mask[:count], 0, count
        )
        bind_logits(binding, self._logits[:count])
        self._steps[count] = binding
        return binding

    def _bind_chunk(self, token_ids: Sequence[int], slot: int, start: int) -> ort.IOBinding:
        end = start + len(token_ids)
        self._reserve(end)
        positions = np.arange(start, end, dtype=np.int64)[None]
        mask = np.ones((1, end), np.int64)
        return self._bind(np.array([token_ids], np.int64), positions, mask, slot, slot + 1)

    def _bind(
        self,
        input_ids: NDArray[np.int64],
        position_ids: NDArray[np.int64],
        attention_mask: NDArray[np.int64],
        first: int,
        last: int,
        sizes: Lengths | None = None,
    ) -> ort.IOBinding:
        """Bind all that goes in but the logits' number; `sizes` are the rows' where they differ."""
        binding = self._session.io_binding()
        binding.bind_cpu_input(INPUT_IDS, input_ids)
        binding.bind_cpu_input(POSITION_IDS, position_ids)
        binding.bind_cpu_input(ATTENTION_MASK, attention_mask)
        tokens = input_ids.shape[1]
        if self.widest > 1:
            sizes = np.full(last - first, tokens) if sizes is None else sizes
            binding.bind_cpu_input(QUERY_LENGTHS, sizes.astype(np.int32))
        self._cache.bind(binding, first, last, in_place=self._in_place(tokens))
        if self._adapter is not None:
            self._adapter.bind(binding)
        return binding


def every_token() -> ort.OrtValue:
    """Return what to override `num_logits_to_keep` by to get the logits after every token."""
    return ort.OrtValue.ortvalue_from_numpy(np.array(0, np.int64))


def bind_logits(binding: ort.IOBinding, logits: NDArray[np.float32]) -> None:
    """Let a pass write its logits into an array, `[rows, 1, vocab_size]`."""
    binding.bind_output(LOGITS, "cpu", 0, logits.dtype, logits.shape, logits.ctypes.data)
