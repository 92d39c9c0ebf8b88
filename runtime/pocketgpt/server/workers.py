"""Several serving processes on one port: the kernel spreads connections over them.

Each has a socket of its own (SO_REUSEPORT), so that none takes all connections at once; one that
dies is started again. Weights are mapped from one file, so that they are in memory once, as far as
ONNX Runtime uses them where they lie.
"""

from __future__ import annotations

import dataclasses
import multiprocessing
import os
import shutil
import signal
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import wait
from typing import Any

from ..engine.threads import physical_cores
from ..errors import OptionError, PocketGPTError
from .metrics import SHARED_FOLDER
from .settings import Settings

FAILED = 3  # a worker's exit code where its models cannot be loaded
_SOON = 10.0  # seconds; who dies sooner than that is not started at once
_EXTRA = 15.0  # seconds more than the grace until a worker is killed
_context = multiprocessing.get_context("spawn")


def serve_by_workers(
    settings: Settings, bound: socket.socket, ready: Callable[[], None] = lambda: None
) -> None:
    """Serve by several processes until a signal says to end.

    Args:
        settings: what to serve, and how.
        bound: a socket that holds the port, bound to be shared, and does not listen.
        ready: called once a worker has loaded the models.

    Raises:
        PocketGPTError: the models cannot be loaded.
    """
    host, port = bound.getsockname()[:2]
    told = _shared_out(dataclasses.replace(settings, host=host, port=port))
    with _shared_figures() as forget:
        Supervisor(told, ready, forget).run()


def check_workers(settings: Settings) -> None:
    """Refuse several workers where the system cannot spread connections over them.

    Raises:
        OptionError: it cannot.
    """
    if settings.workers > 1 and not hasattr(socket, "SO_REUSEPORT"):
        raise OptionError("--workers needs SO_REUSEPORT, which this system does not have; use 1")


class Supervisor:
    """Starts workers, starts those that die again, and ends all of them."""

    def __init__(
        self, settings: Settings, ready: Callable[[], None], forget: Callable[[int], None]
    ) -> None:
        """Take the settings of each worker.

        Args:
            settings: of one.
            ready: called once a worker has loaded the models.
            forget: called with the process id of one that has ended.
        """
        self._settings = settings
        self._ready = ready
        self._forget = forget
        self._stopping = False
        self._running: dict[
            int, tuple[Any, float]
        ] = {}  # by number: the process, and when it began
        self._loaded = _context.Event()

    def run(self) -> None:
        """Go on until a signal, or until no worker can load the models.

        Raises:
            PocketGPTError: none can.
        """
        with self._signals():
            for number in range(self._settings.workers):
                self._start(number, again=False)
            threading.Thread(target=self._say_ready, daemon=True).start()
            failed = self._watch()
            self._end()
        if failed:
            raise PocketGPTError("the models could not be loaded; the workers said why")

    def _say_ready(self) -> None:
        while not self._loaded.wait(0.2):
            if self._stopping:
                return
        self._ready()

    def _start(self, number: int, *, again: bool) -> None:
        process = _context.Process(
            target=work,
            args=(self._settings, self._loaded, again),
            name=f"pocketgpt-worker-{number}",
        )
        process.start()
        self._running[number] = (process, time.monotonic())

    def _watch(self) -> bool:
        """Start again who dies; return whether models cannot be loaded."""
        while not self._stopping:
            wait([process.sentinel for process, _ in self._running.values()], timeout=0.2)
            for number, (process, begun) in list(self._running.items()):
                if self._stopping or process.is_alive():
                    continue
                self._forget(process.pid)
                if process.exitcode == FAILED and not self._loaded.is_set():
                    return True
                print(
                    f"warning: a worker ended with {process.exitcode}; starting another",
                    file=sys.stderr,
                )
                if time.monotonic() - begun < _SOON:
                    time.sleep(1.0)
                self._start(number, again=True)
        return False

    def _end(self) -> None:
        self._stopping = True
        for process, _ in self._running.values():
            if process.is_alive():
                process.terminate()
        deadline = time.monotonic() + self._settings.limits.grace + _EXTRA
        for process, _ in self._running.values():
            process.join(max(0.0, deadline - time.monotonic()))
            if process.is_alive():
                process.kill()
                process.join()

    @contextmanager
    def _signals(self) -> Iterator[None]:
        def stop(number: int, frame: object) -> None:
            self._stopping = True

        before = {n: signal.signal(n, stop) for n in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def work(settings: Settings, loaded: Any, again: bool) -> None:
    """Be a worker; one that is started again takes connections only once it can answer."""
    from .running import listen, serve

    parent = multiprocessing.parent_process()
    assert parent is not None
    threading.Thread(target=_follow, args=(parent,), daemon=True).start()
    try:
        serve(settings, listen(settings, share=True), loaded.set, load_first=again)
    except PocketGPTError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(FAILED)


def _follow(parent: Any) -> None:
    """End when the parent has: nobody else would end this process then."""
    parent.join()
    os.kill(os.getpid(), signal.SIGTERM)


def _shared_out(settings: Settings) -> Settings:
    """Return the settings of one worker: its share of the threads."""
    share = max(1, physical_cores() // settings.workers)
    models = tuple(
        dataclasses.replace(
            spec, options={**spec.options, "threads": spec.options.get("threads") or share}
        )
        for spec in settings.models
    )
    return dataclasses.replace(settings, models=models)


@contextmanager
def _shared_figures() -> Iterator[Callable[[int], None]]:
    """Give workers a folder to add their figures up in; yield what forgets a process's own."""
    folder = tempfile.mkdtemp(prefix="pocketgpt-metrics-")
    os.environ[SHARED_FOLDER] = folder

    def forget(pid: int) -> None:
        from prometheus_client.multiprocess import mark_process_dead

        mark_process_dead(pid, folder)  # type: ignore[no-untyped-call]

    try:
        yield forget
    finally:
        os.environ.pop(SHARED_FOLDER, None)
        shutil.rmtree(folder, ignore_errors=True)
