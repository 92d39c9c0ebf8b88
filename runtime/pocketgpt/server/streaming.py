"""Answers as server-sent events: a chunk each, an error as one of its own, [DONE] at the end."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from typing import Any

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from .answers import Answer
from .call import Ended, Event, Failed, Part
from .engine import Engine
from .errors import ApiError
from .waiting import batches, until_gone

SILENCE = 15.0  # seconds after which a comment says that the connection is alive
ALIVE = b": waiting\n\n"
DONE = b"data: [DONE]\n\n"


class JsonResponse(Response):
    """JSON as it is: not escaped; what is no Unicode, from a request's own words, replaced."""

    media_type = "application/json"

    def render(self, content: Any) -> bytes:
        """Return the bytes."""
        return encode(content)


def encode(content: Any) -> bytes:
    """Return JSON as bytes."""
    text = json.dumps(content, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return text.encode("utf-8", "replace")


def error_response(error: ApiError) -> JsonResponse:
    """Return the answer that is an error."""
    return JsonResponse(error.content, error.status, error.headers)


class EventStream:
    """A call's answer as it comes, an ASGI application of its own.

    A failure before anything came is an answer with its own status; later it is a chunk. A client
    that goes away ends the call.
    """

    def __init__(self, answer: Answer, engine: Engine) -> None:
        self._answer = answer
        self._engine = engine

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it."""
        gone = asyncio.create_task(until_gone(receive))
        sending = asyncio.create_task(self._send(scope, receive, send))
        try:
            await asyncio.wait({gone, sending}, return_when=asyncio.FIRST_COMPLETED)
            if sending.done():
                sending.result()
        finally:
            self._engine.cancel(self._answer.call)  # does nothing where it has ended
            gone.cancel()
            sending.cancel()
            with suppress(asyncio.CancelledError, OSError):
                await sending

    async def _send(self, scope: Scope, receive: Receive, send: Send) -> None:
        begun = False
        async for body in self._bodies():
            if isinstance(body, ApiError):
                await error_response(body)(scope, receive, send)
                return
            if not begun:
                await send({"type": "http.response.start", "status": 200, "headers": _HEADERS})
                begun = True
            await send({"type": "http.response.body", "body": body, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _bodies(self) -> AsyncIterator[bytes | ApiError]:
        """Yield the bytes to send together; an error instead, where it is all there is."""
        answer, begun = self._answer, False
        async for events in batches(answer.call, SILENCE):
            failed = next((event.error for event in events if isinstance(event, Failed)), None)
            if failed is not None and not begun:
                yield failed
                return
            opening = b"" if begun else b"".join(map(_line, answer.begin()))
            begun = True
            yield opening + (b"".join(map(_line, self._chunks(events))) or ALIVE)
            if failed is not None:
                yield _line(failed.content) + DONE
                return
        yield b"".join(map(_line, answer.finish())) + DONE

    def _chunks(self, events: list[Event]) -> Iterator[Any]:
        for event in events:
            if isinstance(event, Part):
                yield from self._answer.part(event)
            elif isinstance(event, Ended):
                yield from self._answer.ended(event)


def _line(chunk: Any) -> bytes:
    return b"data: " + encode(chunk) + b"\n\n"


# Proxies that gather what they pass on (nginx) are asked not to.
_HEADERS = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-cache"),
    (b"x-accel-buffering", b"no"),
]
