"""What one request asks the engine for, and what comes back to the event loop piece by piece."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

from ..errors import PocketGPTError
from ..generation.results import GenerationResult, TokenLogprobs
from ..generation.scheduler import AnyJob
from ..generation.sequence import TokenSequence
from .errors import ApiError, as_api_error
from .served import Served


@dataclass(frozen=True)
class Part:
    """More of a text: what became final of it, and its tokens that came, where they are wanted."""

    index: int
    text: str
    logprobs: Sequence[TokenLogprobs] = ()


@dataclass(frozen=True)
class Ended:
    """A text has ended."""

    index: int
    result: GenerationResult
    prompt_logprobs: Sequence[TokenLogprobs] | None = None


@dataclass(frozen=True)
class Failed:
    """Nothing more comes of any text."""

    error: ApiError


Event = Part | Ended | Failed


@dataclass(eq=False)
class Call:
    """The texts of one request.

    Attributes:
        served: the model that makes them.
        texts: all, prompt by prompt.
        jobs: what makes them.
        streams: whether parts are wanted, or only ends.
        loop: the event loop that waits for it.
        events: what has come of it, for that loop.
        pending: jobs that were not given to a scheduler yet; the engine's.
        unfinished: texts that have not ended; the engine's.
    """

    served: Served
    texts: Sequence[TokenSequence]
    jobs: Sequence[AnyJob]
    streams: bool
    loop: asyncio.AbstractEventLoop
    events: asyncio.Queue[Event] = field(default_factory=asyncio.Queue)
    pending: deque[AnyJob] = field(default_factory=deque)
    unfinished: int = 0

    def __post_init__(self) -> None:
        self.pending.extend(job for job in self.jobs if job.finish_reason is None)
        self.unfinished = len(self.texts)


class Watch:
    """What the engine has told of one text so far."""

    def __init__(self, call: Call, index: int) -> None:
        self.call = call
        self._index = index
        self._text = call.texts[index]
        self._told = 0

    def part(self, piece: str) -> Part:
        """Return a piece that became final, with the tokens that came since the last one."""
        found = self._text.logprobs
        since, self._told = found[self._told :], len(found)
        return Part(self._index, piece, since)

    def end(self) -> Ended:
        """Return its end; it is there."""
        return Ended(self._index, self._text.result(), self._text.prompt_logprobs)


def failure(error: BaseException) -> Failed:
    """Return what is told of an error."""
    if isinstance(error, ApiError):
        return Failed(error)
    if isinstance(error, PocketGPTError):
        return Failed(as_api_error(error))
    return Failed(ApiError(500, "the server failed; its log says why", type="server_error"))
