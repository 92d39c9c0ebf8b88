"""Texts as they are made: iterators that can be cancelled, awaited, and asked for the result."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Generic, TypeVar

from .results import GenerationResult

Piece = TypeVar("Piece")
Result = TypeVar("Result")


class BaseStream(Generic[Piece, Result]):
    """What both kinds of stream do; see `Stream` and `BatchStream`.

    Attributes:
        result: None until the iteration has ended, by itself or by being cancelled or closed.
    """

    def __init__(
        self, make: Callable[[Callable[[], bool], Callable[[Result], None]], Iterator[Piece]]
    ) -> None:
        self.result: Result | None = None
        self._cancelled = threading.Event()
        self._pieces = make(self._cancelled.is_set, self._set_result)

    def __iter__(self) -> Iterator[Piece]:
        return self

    def __next__(self) -> Piece:
        return next(self._pieces)

    async def __aiter__(self) -> AsyncIterator[Piece]:
        """Yield the pieces without blocking the event loop; a cancelled task cancels the stream."""
        try:
            while (piece := await asyncio.to_thread(next, self._pieces, None)) is not None:
                yield piece
        finally:
            self.cancel()

    def cancel(self) -> None:
        """End the text within one step. Any thread may call this; the iteration then ends."""
        self._cancelled.set()

    def close(self) -> None:
        """End the iteration now; for the thread that iterates."""
        self.cancel()
        for _ in self._pieces:
            pass

    def _set_result(self, result: Result) -> None:
        self.result = result


class Stream(BaseStream[str, GenerationResult]):
    """Iterates over the pieces of a text as they are made; `result` is there at the end.

    Example:
        >>> stream = model.stream("Once upon a time")
        >>> for piece in stream: print(piece, end="")
        >>> stream.result.finish_reason
    """


class BatchStream(BaseStream[tuple[int, str], list[GenerationResult]]):
    """Iterates over `(index, piece)` of several texts; `result` is the list of them at the end."""
