"""What both kinds of answer have in common: who answers, why texts ended, and what they took."""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from ..generation.results import FinishReason, GenerationResult
from .call import Call, Ended, Part

Json = dict[str, Any]


class Answer(Protocol):
    """Writes what comes of a call as the API has it, whole or as a stream's chunks."""

    call: Call

    def whole(self, ended: Mapping[int, Ended]) -> Json:
        """Return the answer to who waits for all of it."""

    def begin(self) -> Iterator[Json]:
        """Yield the chunks that come before anything is computed."""

    def part(self, part: Part) -> Iterator[Json]:
        """Yield the chunks of more text."""

    def ended(self, ended: Ended) -> Iterator[Json]:
        """Yield the last chunks of a text."""

    def finish(self) -> Iterator[Json]:
        """Yield the chunks behind those of all texts."""


@dataclass(frozen=True)
class Envelope:
    """What every answer and every chunk of it has around its choices."""

    id: str
    object: str
    created: int
    model: str
    system_fingerprint: str

    @classmethod
    def new(cls, call: Call, prefix: str, kind: str) -> Envelope:
        """Return a new one, of an id that begins with `prefix`."""
        served = call.served
        made = f"{prefix}-{secrets.token_hex(12)}"
        return cls(made, kind, int(time.time()), served.name, served.fingerprint)

    def around(self, choices: list[Json], **more: Any) -> Json:
        """Return choices with it around them."""
        return {
            "id": self.id,
            "object": self.object,
            "created": self.created,
            "model": self.model,
            "system_fingerprint": self.system_fingerprint,
            "choices": choices,
            **more,
        }


def finish_reason(reason: FinishReason) -> str:
    """Return why a text ended, in the API's words: it has none for time."""
    return "stop" if reason in ("eos", "stop") else "length"


def usage(
    prompts: Sequence[int], results: Sequence[Sequence[GenerationResult]], nothing: bool = False
) -> Json:
    """Return what a request took.

    Args:
        prompts: the tokens of each prompt.
        results: of each prompt those of its texts.
        nothing: whether no new tokens were wanted, and none counts.
    """
    prompt_tokens = sum(prompts)
    new = 0 if nothing else sum(len(one.token_ids) for texts in results for one in texts)
    # Of one prompt's texts the first to run computes it, and the others copy.
    cached = sum(min(one.timings.reused_tokens for one in texts) for texts in results)
    guessed = [one.timings for texts in results for one in texts if one.timings.guessed_tokens]
    found: Json = {
        "prompt_tokens": prompt_tokens,
        "completion_tokens": new,
        "total_tokens": prompt_tokens + new,
        "prompt_tokens_details": {"cached_tokens": cached},
    }
    if guessed:
        accepted = sum(timings.accepted_tokens for timings in guessed)
        rejected = sum(timings.guessed_tokens for timings in guessed) - accepted
        found["completion_tokens_details"] = {
            "accepted_prediction_tokens": accepted,
            "rejected_prediction_tokens": rejected,
        }
    return found
