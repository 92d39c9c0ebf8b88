"""How the event loop waits for a call: until all of it is there, or its client has gone."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress

from starlette.types import Receive

from .call import Call, Ended, Event, Failed
from .engine import Engine


class ClientGoneError(Exception):
    """The client has closed its connection: there is nobody to answer."""


async def until_gone(receive: Receive) -> None:
    """Return when the client has closed its connection."""
    while (await receive())["type"] != "http.disconnect":
        pass


async def batches(call: Call, silence: float | None = None) -> AsyncIterator[list[Event]]:
    """Yield what comes of a call, all that is there together, until nothing more does.

    An empty list says that nothing came for `silence` seconds.
    """
    left = len(call.texts)
    while left:
        events: list[Event] = []
        with suppress(TimeoutError):
            async with asyncio.timeout(silence):
                events.append(await call.events.get())
        while not call.events.empty():
            events.append(call.events.get_nowait())
        yield events
        left -= sum(isinstance(event, Ended) for event in events)
        if any(isinstance(event, Failed) for event in events):
            return


async def collect(call: Call, engine: Engine, receive: Receive) -> dict[int, Ended]:
    """Return the ends of all of a call's texts, by their indices.

    Raises:
        ApiError: it failed.
        ClientGoneError: its client has gone; then it is cancelled.
    """
    gone = asyncio.create_task(until_gone(receive))
    ends = asyncio.create_task(_ends(call))
    try:
        await asyncio.wait({gone, ends}, return_when=asyncio.FIRST_COMPLETED)
        if not ends.done():
            raise ClientGoneError
        return ends.result()
    finally:
        engine.cancel(call)  # does nothing where it has ended
        gone.cancel()
        ends.cancel()


async def _ends(call: Call) -> dict[int, Ended]:
    found: dict[int, Ended] = {}
    async for events in batches(call):
        for event in events:
            if isinstance(event, Failed):
                raise event.error
            if isinstance(event, Ended):
                found[event.index] = event
    return found
