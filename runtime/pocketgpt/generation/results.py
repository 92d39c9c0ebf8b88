"""What a generation returns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

FinishReason = Literal["eos", "length", "stop", "time", "cancelled"]


@dataclass(frozen=True)
class Timings:
    """Where the time of a generation went, in seconds.

    `time_to_first_token` runs from the call to the first new token; `decode_seconds` from there to
    the last one, which is `new_tokens - 1` steps. `reused_tokens` of the prompt were in a cache and
    not computed again. `engine_seconds` of the decoding was ONNX Runtime's, for all texts that were
    decoded together: what is left of `decode_seconds` is the runtime's own. `guessed_tokens` were
    guessed ahead (`prompt_lookup_num_tokens`, or `assistant`), and `accepted_tokens` of them came
    true. `waiting_seconds` of the time to the first token went by before the text had a slot.
    """

    prompt_tokens: int
    new_tokens: int
    time_to_first_token: float
    decode_seconds: float
    reused_tokens: int = 0
    engine_seconds: float = 0.0
    guessed_tokens: int = 0
    accepted_tokens: int = 0
    waiting_seconds: float = 0.0

    @property
    def tokens_per_second(self) -> float | None:
        """Decoding speed after the first token; None without a second one, or without a tick."""
        if self.new_tokens < 2 or self.decode_seconds <= 0:
            return None
        return (self.new_tokens - 1) / self.decode_seconds


@dataclass(frozen=True)
class TokenLogprobs:
    """Natural log-probabilities at one step, by the model alone: no option has changed them.

    `logprob` is the chosen token's; `top` has the likeliest tokens' ids and theirs, best first.
    """

    token_id: int
    logprob: float
    top: list[tuple[int, float]]


@dataclass(frozen=True)
class GenerationResult:
    """What a generation made.

    Attributes:
        text: the new text; a stop string and what follows it are cut.
        token_ids: the new tokens, a final EOS and a stop string's included.
        finish_reason: `eos`, `length`, `stop` (a stop string), `time` (max_time) or `cancelled`.
        timings: where the time went.
        logprobs: one entry a token where `logprobs` was asked for.
        score: the beam's score: its log-probability, divided by its length to the power of
            `length_penalty`. None without beams.
        reprefills: how often the context overflowed and was computed afresh.
    """

    text: str
    token_ids: list[int]
    finish_reason: FinishReason
    timings: Timings
    logprobs: list[TokenLogprobs] | None = None
    score: float | None = None
    reprefills: int = 0


@dataclass
class Counters:
    """What a scheduler has done for texts that were made together.

    `steps` of `rows` in all; `idle` slots in those steps, summed, while jobs waited; `passes` of
    prefill over `prefilled` tokens and `padding`; `shared` tokens that were copied instead.
    """

    steps: int = 0
    rows: int = 0
    idle: int = 0
    passes: int = 0
    prefilled: int = 0
    padding: int = 0
    shared: int = 0
