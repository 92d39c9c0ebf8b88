"""Texts as they are made: iterators that can be cancelled, awaited, and asked for the result."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator, Callable, Iterator
from types import TracebackType
from typing import Any, Generic, Self, TypeVar

from ..errors import OptionError
from .results import Counters, GenerationResult

Piece = TypeVar("Piece")
Result = TypeVar("Result")


class BaseStream(Generic[Piece, Result]):
    """What both kinds of stream do; see `Stream` and `BatchStream`.

    Any thread may iterate, cancel or close: a step runs in one of them, the others wait for its
    end. Pieces go to whoever asks first. `with` and `async with` close the stream at their end.

    Attributes:
        result: None until the iteration has ended, by itself or by being cancelled or closed.
    """

    def __init__(
        self, make: Callable[[Callable[[], bool], Callable[[Result], None]], Iterator[Piece]]
    ) -> None:
        self.result: Result | None = None
        self._cancelled = threading.Event()
        self._pieces = make(self._cancelled.is_set, self._set_result)
        self._turn = threading.RLock()  # held while a step runs
        self._in_step = False

    def __iter__(self) -> Iterator[Piece]:
        return self

    def __next__(self) -> Piece:
        with self._turn:
            if self._in_step:  # the lock lets its own thread pass: a callback of the step's
                raise OptionError("a stream cannot be iterated from within its own step")
            self._in_step = True
            try:
                return next(self._pieces)
            finally:
                self._in_step = False

    def __aiter__(self) -> AsyncIterator[Piece]:
        """Yield the pieces without blocking the event loop; leaving the loop ends the stream."""
        return _AsyncPieces(self)

    def cancel(self) -> None:
        """End the text within one step. Any thread may call this; the iteration then ends."""
        self._cancelled.set()

    def close(self) -> None:
        """End the iteration now, after a step that is running; then there is a `result`.

        Called from within a step, by a signal handler for one, it only cancels.
        """
        self.cancel()
        with self._turn:
            if not self._in_step:
                for _ in self:
                    pass

    async def aclose(self) -> None:
        """Do what `close` does without blocking the event loop."""
        import asyncio  # a tenth of the time that importing all of this takes

        self.cancel()
        # In a thread from now on: a task that is cancelled again while it waits, or a loop that
        # ends, leaves it to finish by itself.
        closing = asyncio.get_running_loop().run_in_executor(None, self.close)
        await asyncio.shield(closing)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()

    def close_unless_running(self) -> None:
        """Cancel; where no step is running, which would have to be waited for, close as well."""
        self.cancel()
        if self._turn.acquire(blocking=False):
            try:
                self.close()
            finally:
                self._turn.release()

    def _set_result(self, result: Result) -> None:
        self.result = result


class _AsyncPieces(AsyncIterator[Piece]):
    """What `async for` iterates over: every step in a thread."""

    def __init__(self, stream: BaseStream[Piece, Any]) -> None:
        self._stream = stream

    async def __anext__(self) -> Piece:
        import asyncio

        try:
            # An event loop cannot hand on StopIteration: None stands for it.
            piece = await asyncio.to_thread(next, self._stream, None)
        except asyncio.CancelledError:
            await self._stream.aclose()  # for the step that still runs
            raise
        if piece is None:
            raise StopAsyncIteration
        return piece

    async def aclose(self) -> None:
        """End the stream before its end."""
        await self._stream.aclose()

    def __del__(self) -> None:
        # The loop was left, by `break` or by an error in its body: nobody waits for the rest.
        self._stream.close_unless_running()


class Stream(BaseStream[str, GenerationResult]):
    """Iterates over the pieces of a text as they are made; `result` is there at the end.

    Example:
        >>> stream = model.stream("Once upon a time")
        >>> for piece in stream: print(piece, end="")
        >>> stream.result.finish_reason
    """


class BatchStream(BaseStream[tuple[int, str], list[GenerationResult]]):
    """Iterates over `(index, piece)` of several texts; `result` is the list of them at the end.

    Attributes:
        counters: what the scheduler has done for them so far.
    """

    counters = Counters()
