"""Passes over a fused graph whose cache stays on a device.

Ids, positions and a mask go in, logits come out; keys and values are bound where they lie, once.
A session reads whole buffers there, with no address of a part: fewer slots than all are taken out
into buffers of their own, which are stepped for as long as nobody asks for others, and put back.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from ..folder.config import ModelConfig
from .adapters import Adapter
from .buffers import DeviceBuffers
from .captured import CapturedStep, uncaptured
from .contract import (
    ATTENTION_MASK,
    INPUT_IDS,
    LOGITS,
    NUM_LOGITS_TO_KEEP,
    POSITION_IDS,
    SIDES,
    check_every,
    past_name,
    present_name,
)
from .fused import bind_logits, every_token
from .ort_session import run_bound
from .passes import Lengths, Logits, side_by_side
from .placement import Placement


class Step(Protocol):
    """One token for each of some rows, over buffers that are bound.

    `fixed`: the mask is as long as the buffers; else it ends with the longest text.
    """

    fixed: bool

    def run(
        self, ids: NDArray[np.int64], positions: NDArray[np.int64], mask: NDArray[np.int64]
    ) -> NDArray[np.float32]:
        """Return `[rows, 1, vocab_size]`, which hold until the next run."""


@dataclass
class _BoundStep:
    """A step into one array."""

    session: ort.InferenceSession
    binding: ort.IOBinding
    logits: NDArray[np.float32]
    options: ort.RunOptions | None
    fixed = False

    def __post_init__(self) -> None:
        bind_logits(self.binding, self.logits)

    def run(
        self, ids: NDArray[np.int64], positions: NDArray[np.int64], mask: NDArray[np.int64]
    ) -> NDArray[np.float32]:
        _bind_text(self.binding, ids, positions, mask)
        run_bound(self.session, self.binding, self.options)
        return self.logits


@dataclass
class _Rows:
    """Buffers of some slots, and how a step of them is bound, once there was one."""

    values: list[ort.OrtValue]
    step: Step | None = None


class DevicePasses:
    """Where the attention does not take rows of different lengths, they go through one by one."""

    widest = 1

    def __init__(
        self,
        session: ort.InferenceSession,
        config: ModelConfig,
        cache: DeviceBuffers,
        placement: Placement,
        adapter: Adapter | None = None,
    ) -> None:
        self.seconds = 0.0
        self._session = session
        self._config = config
        self._cache = cache
        self._placement = placement
        self._adapter = adapter
        self._all: _Rows | None = None  # the cache's own buffers
        self._parts: dict[tuple[int, int], _Rows] = {}  # by first and last; no two overlap
        self._options = uncaptured() if placement.captured else None

    def append(self, token_ids: Sequence[int], slot: int, start: int) -> Logits:
        return _after_last(self._chunk(token_ids, slot, start))

    def feed(self, token_ids: Sequence[int], slot: int, start: int) -> None:
        self._chunk(token_ids, slot, start)  # a row of logits is no work for a device

    def append_all(self, token_ids: Sequence[int], slot: int, start: int) -> Logits:
        every: Logits = self._chunk(token_ids, slot, start, every=True)[0]
        return every

    def check(self, chunks: Sequence[Sequence[int]], lengths: Lengths) -> list[Logits]:
        raise NotImplementedError

    def fill(self, prompts: Sequence[Sequence[int]], first: int) -> Logits:
        if not self._placement.ragged and len({len(prompt) for prompt in prompts}) > 1:
            rows = [self.append(prompt, slot, 0) for slot, prompt in enumerate(prompts, first)]
            return np.concatenate(rows)
        token_ids, positions, real = side_by_side(prompts)
        positions = np.where(real, positions, 0)
        last = first + len(prompts)
        logits = self._pass(token_ids, positions, real.astype(np.int64), first, last)
        return _after_last(logits)

    def step(self, token_ids: Sequence[int], lengths: Lengths) -> Logits:
        ids, count = np.array(token_ids, np.int64)[:, None], len(lengths)
        self._reserve(int(lengths.max()) + 1)
        if self._placement.ragged or (lengths == lengths[0]).all():
            return self._step(ids, lengths, 0, count)
        rows = [
            self._step(ids[row : row + 1], lengths[row : row + 1], row, row + 1)
            for row in range(count)
        ]
        return np.concatenate(rows)

    def settle(self) -> None:
        for (first, _), rows in self._parts.items():
            self._cache.put(first, 0, rows.values)
        self._parts.clear()

    def _step(self, ids: NDArray[np.int64], lengths: Lengths, first: int, last: int) -> Logits:
        rows = self._at(first, last)
        step = rows.step = rows.step or self._bind_step(rows, last - first)
        columns = self._cache.capacity if step.fixed else int(lengths.max()) + 1
        positions = lengths[:, None]
        mask = (np.arange(columns) <= positions).astype(np.int64)
        begin = time.perf_counter()
        logits = step.run(ids, positions, mask)
        self.seconds += time.perf_counter() - begin
        return _after_last(logits)

    def _chunk(
        self, token_ids: Sequence[int], slot: int, start: int, every: bool = False
    ) -> NDArray[np.float32]:
        """Return `[1, tokens or 1, vocab_size]`."""
        end = start + len(token_ids)
        positions = np.arange(start, end, dtype=np.int64)[None]
        ids, mask = np.array([token_ids], np.int64), np.ones((1, end), np.int64)
        return self._pass(ids, positions, mask, slot, slot + 1, every)

    def _pass(
        self,
        ids: NDArray[np.int64],
        positions: NDArray[np.int64],
        mask: NDArray[np.int64],
        first: int,
        last: int,
        every: bool = False,
    ) -> NDArray[np.float32]:
        self._reserve(mask.shape[1])
        binding = self._bind(self._at(first, last).values)
        _bind_text(binding, ids, positions, mask)
        if every:
            binding.bind_ortvalue_input(NUM_LOGITS_TO_KEEP, every_token())
        binding.bind_output(LOGITS)
        begin = time.perf_counter()
        run_bound(self._session, binding, self._options)
        logits: NDArray[np.float32] = binding.get_outputs()[-1].numpy()
        self.seconds += time.perf_counter() - begin
        if every:
            check_every(logits, ids.shape[1])
        return logits

    def _reserve(self, tokens: int) -> None:
        if tokens > self._cache.capacity:
            self.settle()
            self._cache.reserve(tokens)

    def _at(self, first: int, last: int) -> _Rows:
        """Return the buffers of the slots from `first` to before `last`."""
        if (first, last) == (0, self._cache.slots):
            self.settle()
            if self._all is None or self._all.values is not self._cache.values:
                self._all = _Rows(self._cache.values)
            return self._all
        if (first, last) not in self._parts:
            if any(start < last and first < end for start, end in self._parts):
                self.settle()
            self._parts[first, last] = _Rows(self._cache.rows(first, last))
        return self._parts[first, last]

    def _bind_step(self, rows: _Rows, count: int) -> Step:
        binding = self._bind(rows.values)
        if self._cache.fixed and rows is self._all:
            shape = (count, self._cache.capacity, self._config.n_logits)
            return CapturedStep(self._session, binding, shape, self._placement)
        logits = np.zeros((count, 1, self._config.n_logits), np.float32)
        return _BoundStep(self._session, binding, logits, self._options)

    def _bind(self, values: Sequence[ort.OrtValue]) -> ort.IOBinding:
        """Bind keys and values as past and as present, and the adapter."""
        binding = self._session.io_binding()
        places = [(layer, side) for side in SIDES for layer in range(self._config.n_layer)]
        for (layer, side), value in zip(places, values, strict=True):
            binding.bind_ortvalue_input(past_name(layer, side), value)
            binding.bind_ortvalue_output(present_name(layer, side), value)
        if self._adapter is not None:
            self._adapter.bind(binding)
        return binding


def _after_last(logits: NDArray[np.float32]) -> Logits:
    """Return `[rows, vocab_size]` of `[rows, 1, vocab_size]`."""
    last: Logits = logits[:, -1]
    return last


def _bind_text(
    binding: ort.IOBinding,
    ids: NDArray[np.int64],
    positions: NDArray[np.int64],
    mask: NDArray[np.int64],
) -> None:
    """Bind what a pass is told of its tokens; binding copies it to where the session wants it."""
    binding.bind_cpu_input(INPUT_IDS, ids)
    binding.bind_cpu_input(POSITION_IDS, positions)
    binding.bind_cpu_input(ATTENTION_MASK, mask)
