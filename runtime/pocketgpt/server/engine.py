"""The one thread that computes: every request's texts go through its schedulers' slots.

The event loop hands calls over and takes events back, both without waiting. What a call does to the
others is bounded: it gets slots in turn, may leave at any step, and fails alone.
"""

from __future__ import annotations

import asyncio
import logging
import math
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from contextlib import suppress
from queue import Empty, SimpleQueue

from ..generation.scheduler import AnyJob, Scheduler
from ..generation.sequence import Piece, TokenSequence
from .call import Call, Ended, Event, Failed, Watch, failure
from .errors import ApiError, unavailable
from .line import Line
from .metrics import Metrics
from .served import Catalog, Served
from .settings import Limits

Command = Callable[[], None]
log = logging.getLogger("pocketgpt.server")


def stopping() -> ApiError:
    """Return the error of a server that is about to end."""
    return unavailable("the server is stopping; try again later", "stopping")


class Lane:
    """One name's scheduler, and the calls that run on it."""

    def __init__(self, served: Served, limits: Limits, metrics: Metrics) -> None:
        self.line = Line()
        self.calls: set[Call] = set()
        self.depth = (0, 0)  # rows that run, jobs that wait
        self._served = served
        self._slots = limits.slots
        self._metrics = metrics
        self._watches: dict[TokenSequence, Watch] = {}
        self._open()

    def _open(self) -> None:
        model = self._served.model
        self.scheduler: Scheduler = model.scheduler(self._slots, self._served.adapter, isolate=True)
        self._stepped = 0.0

    @property
    def busy(self) -> bool:
        """Whether there is anything to do."""
        return bool(self.calls)

    def join(self, call: Call) -> None:
        """Take on a call."""
        self.calls.add(call)
        self.line.join(call)
        self._watches |= {text: Watch(call, i) for i, text in enumerate(call.texts)}

    def round(self) -> list[tuple[Call, Event]]:
        """Do one round; return what came of it."""
        events: list[tuple[Call, Event]] = []
        try:
            while (job := self.line.next(self.scheduler.room)) is not None:
                self.scheduler.submit(job)
            pieces = self.scheduler.round() if self.scheduler.busy else []
            self._observe()
            self._tell(pieces, events)
        except Exception as error:  # a pass failed: what ran is lost, what waits is not
            log.exception("a pass over %s failed", self._served.name)
            self._give_up(error, events)
        self.depth = (self.scheduler.running, len(self.line) + len(self.scheduler.waiting))
        return events

    def leave(self, call: Call) -> None:
        """Let a call go, wherever its texts are; their slots are free at once."""
        self.calls.discard(call)
        self.line.leave(call)
        for job in call.jobs:
            self.scheduler.drop(job)
        for text in call.texts:
            self._watches.pop(text, None)

    def _tell(self, pieces: Sequence[Piece], events: list[tuple[Call, Event]]) -> None:
        """Add what became final, what failed by itself and what ended, in this order."""
        errors = [(self._call_of(job), error) for job, error in self.scheduler.failed]
        self.scheduler.failed.clear()
        failed = {call for call, _ in errors}
        for text, piece in pieces:
            watch = self._watches.get(text)
            if watch is not None and watch.call.streams and watch.call not in failed:
                events.append((watch.call, watch.part(piece)))
        for call, error in errors:
            if call in self.calls:
                events.append((call, failure(error)))
                self.leave(call)
        ended = [(text, watch) for text, watch in self._watches.items() if text.finish_reason]
        for text, watch in ended:
            del self._watches[text]
            events.append((watch.call, watch.end()))
            watch.call.unfinished -= 1
            if not watch.call.unfinished:
                self.calls.discard(watch.call)

    def _call_of(self, job: AnyJob) -> Call:
        return next(call for call in self.calls if job in call.jobs)

    def _give_up(self, error: Exception, events: list[tuple[Call, Event]]) -> None:
        """Fail what has begun; go on with a new scheduler for those that have not."""
        for call in [call for call in self.calls if len(call.pending) < len(call.jobs)]:
            events.append((call, failure(error)))
            self.calls.discard(call)
            self.line.leave(call)
            for text in call.texts:
                self._watches.pop(text, None)
        self._open()

    def _observe(self) -> None:
        """Note the gap between two steps, as every text that runs sees it."""
        now, running = time.perf_counter(), self.scheduler.running
        if running and self._stepped:
            self._metrics.stepped(self._served.name, now - self._stepped)
        self._stepped = now if running else 0.0


class Engine:
    """Runs calls; any thread may submit and cancel them."""

    def __init__(self, catalog: Catalog, limits: Limits, metrics: Metrics) -> None:
        self._limits = limits
        self._lanes = {name: Lane(served, limits, metrics) for name, served in catalog.items()}
        self._metrics = metrics
        self._commands: SimpleQueue[Command] = SimpleQueue()
        self._lock = threading.Lock()
        self._texts = 0  # that have not ended
        self._seconds = 1.0  # that a text took lately
        self._deadline: float | None = None
        self._thread = threading.Thread(target=self._run, name="pocketgpt-engine", daemon=True)

    def start(self) -> None:
        """Begin to compute."""
        self._thread.start()

    @property
    def unfinished(self) -> int:
        """How many texts have not ended."""
        return self._texts

    def depth(self, name: str) -> tuple[int, int]:
        """Return how many rows of a name run, and how many jobs wait."""
        return self._lanes[name].depth

    def submit(self, call: Call) -> None:
        """Take on a call.

        Raises:
            ApiError: too many texts wait already, or the server is stopping.
        """
        with self._lock:
            if self._deadline is not None:
                raise stopping()
            room = self._limits.slots + self._limits.queue
            if self._texts + len(call.texts) > max(room, len(call.texts)):
                raise self._full()
            self._texts += len(call.texts)
            self._commands.put(lambda: self._lanes[call.served.name].join(call))

    def cancel(self, call: Call) -> None:
        """Let a call go: nobody waits for it any more. One that has ended stays as it is."""
        self._commands.put(lambda: self._leave(call))

    def drain(self, grace: float) -> None:
        """Take no more calls; end when those there are have, or after `grace` seconds."""
        with self._lock:
            self._deadline = min(self._deadline or math.inf, time.monotonic() + grace)
        self._commands.put(lambda: None)  # it may sleep

    def join(self, timeout: float) -> None:
        """Wait for the thread's end."""
        if self._thread.is_alive():
            self._thread.join(timeout)

    def _full(self) -> ApiError:
        waits = self._seconds * max(1.0, self._texts / self._limits.slots - 1)
        return ApiError(
            429,
            f"the server is busy with {self._texts} texts, as many as it takes; try again later",
            type="rate_limit_error",
            code="queue_full",
            retry_after=min(60, max(1, math.ceil(waits))),
        )

    def _run(self) -> None:
        while True:
            self._obey()
            busy = [lane for lane in self._lanes.values() if lane.busy]
            if self._deadline is not None and (not busy or time.monotonic() > self._deadline):
                break
            self._post([event for lane in busy for event in lane.round()])
        self._obey()  # a call may have come just before the deadline was set
        self._post(
            [(call, failure(stopping())) for lane in self._lanes.values() for call in lane.calls]
        )

    def _obey(self) -> None:
        """Do what was asked meanwhile; wait for something, where there is nothing else to do."""
        idle = self._deadline is None and not any(lane.busy for lane in self._lanes.values())
        with suppress(Empty):
            self._commands.get(block=idle)()
            while True:
                self._commands.get_nowait()()

    def _leave(self, call: Call) -> None:
        lane = self._lanes[call.served.name]
        if call in lane.calls:
            lane.leave(call)
            self._finished(call.unfinished)

    def _post(self, events: list[tuple[Call, Event]]) -> None:
        """Hand events to the loops that wait for them, all at once: a wake-up costs."""
        by_loop: dict[asyncio.AbstractEventLoop, list[tuple[Call, Event]]] = defaultdict(list)
        for call, event in events:
            self._count(call, event)
            by_loop[call.loop].append((call, event))
        for loop, some in by_loop.items():
            with suppress(RuntimeError):  # it was closed: nobody waits
                loop.call_soon_threadsafe(_hand_over, some)

    def _count(self, call: Call, event: Event) -> None:
        if isinstance(event, Ended):
            self._metrics.text_ended(call.served.name, event.result)
            timings = event.result.timings
            took = timings.time_to_first_token - timings.waiting_seconds + timings.decode_seconds
            self._seconds += 0.05 * (took - self._seconds)
            self._finished(1)
        elif isinstance(event, Failed):
            self._finished(call.unfinished)

    def _finished(self, texts: int) -> None:
        with self._lock:
            self._texts -= texts


def _hand_over(events: list[tuple[Call, Event]]) -> None:
    for call, event in events:
        call.events.put_nowait(event)
