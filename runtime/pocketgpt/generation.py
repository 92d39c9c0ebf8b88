"""The loop from prompt ids to new ids: choose a token, see whether to stop, step."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from .decoder import Decoder
from .distribution import choose
from .options import GenerationOptions

FinishReason = Literal["eos", "length"]


@dataclass(frozen=True)
class Timings:
    """Where the time of a generation went, in seconds.

    `time_to_first_token` runs from the call to the first new token; `decode_seconds` from there to
    the last one, which is `new_tokens - 1` steps.
    """

    prompt_tokens: int
    new_tokens: int
    time_to_first_token: float
    decode_seconds: float

    @property
    def tokens_per_second(self) -> float | None:
        """Decoding speed after the first token; None when there was no second one."""
        if self.new_tokens < 2:
            return None
        return (self.new_tokens - 1) / self.decode_seconds


@dataclass
class Progress:
    """What a generation has made so far; whole once `finish_reason` is set."""

    token_ids: list[int] = field(default_factory=list)
    finish_reason: FinishReason | None = None
    timings: Timings | None = None


def generate_ids(
    decoder: Decoder,
    prompt_ids: Sequence[int],
    options: GenerationOptions,
    n_positions: int,
    progress: Progress,
) -> Iterator[int]:
    """Yield new token ids after `prompt_ids` and record them in `progress`."""
    started = time.perf_counter()
    first = started
    room = n_positions - len(prompt_ids)
    budget = min(options.new_token_budget(len(prompt_ids)), room)
    random = np.random.default_rng(None if options.seed is None else [options.seed, 0])
    if budget > 0:
        logits = decoder.prefill(prompt_ids)
    while len(progress.token_ids) < budget:
        if progress.token_ids:
            logits = decoder.step(progress.token_ids[-1])
        token_id = choose(logits, options, random)
        if not progress.token_ids:
            first = time.perf_counter()
        progress.token_ids.append(token_id)
        yield token_id
        if token_id in options.eos_token_ids:
            progress.finish_reason = "eos"
            break
    progress.finish_reason = progress.finish_reason or "length"
    progress.timings = Timings(
        prompt_tokens=len(prompt_ids),
        new_tokens=len(progress.token_ids),
        time_to_first_token=first - started,
        decode_seconds=time.perf_counter() - first,
    )
