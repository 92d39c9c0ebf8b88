"""Whose turn it is: requests take turns, so that one of many texts keeps no other waiting."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

from ..generation.scheduler import AnyJob
from .call import Call


class Line:
    """Calls with jobs that no scheduler has yet."""

    def __init__(self) -> None:
        self._calls: deque[Call] = deque()

    def __len__(self) -> int:
        """How many jobs wait."""
        return sum(len(call.pending) for call in self._calls)

    def __iter__(self) -> Iterator[Call]:
        return iter(tuple(self._calls))

    def join(self, call: Call) -> None:
        """Let a call's jobs wait, behind one job of each other call."""
        if call.pending:
            self._calls.append(call)

    def leave(self, call: Call) -> None:
        """Forget a call's jobs."""
        call.pending.clear()
        if call in self._calls:
            self._calls.remove(call)

    def next(self, room: int) -> AnyJob | None:
        """Take the next job, if it fits so many slots: a wide one is not passed over."""
        if not self._calls or self._calls[0].pending[0].width > room:
            return None
        call = self._calls.popleft()
        job = call.pending.popleft()
        self.join(call)
        return job
