"""One serving process: its socket, its signals, its end."""

from __future__ import annotations

import logging
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from ..errors import OptionError
from ..extras import needs_extra
from .settings import Settings

with needs_extra("server"):
    import uvicorn

    from .app import build_app
    from .service import Service

BACKLOG = 1024  # connections that wait to be taken
MOST_CONNECTIONS = 4096
SWITCH_INTERVAL = 0.0005  # seconds; the thread that computes waits so long for the others at most
_STEADY = 5  # seconds more than the grace that answers have until their connections are cut


def listen(settings: Settings, *, share: bool = False) -> socket.socket:
    """Return a socket that is bound to the host and the port.

    Args:
        settings: what says them.
        share: whether other processes are to bind to the same port.

    Raises:
        OptionError: that host is not this machine's, or the port is taken.
    """
    where = f"{settings.host}, port {settings.port}"
    try:
        (family, kind, number, _, address), *_ = socket.getaddrinfo(
            settings.host, settings.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
        bound = socket.socket(family, kind, number)
    except (OSError, UnicodeError) as error:
        raise OptionError(f"cannot listen on {where}: {error}; choose another") from None
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if share:
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        bound.bind(address)
    except OSError as error:
        bound.close()
        raise OptionError(f"cannot listen on {where}: {error}; choose another") from None
    bound.set_inheritable(True)
    return bound


def address_of(bound: socket.socket) -> str:
    """Return the URL of what listens on a socket."""
    host, port = bound.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def serve(
    settings: Settings,
    bound: socket.socket,
    ready: Callable[[], None] = lambda: None,
    *,
    load_first: bool = False,
) -> None:
    """Serve until a signal says to end; those that run then may end, within the time of grace.

    Args:
        settings: what to serve, and how.
        bound: where.
        ready: called, in another thread, once the models are loaded.
        load_first: whether to take connections only then.

    Raises:
        PocketGPTError: the models cannot be loaded.
    """
    _log_to_stderr(settings.access_log)
    sys.setswitchinterval(SWITCH_INTERVAL)
    service = Service(settings, on_end=lambda: _end(servers))
    servers = [_Server(_config(service), service)]
    if load_first:
        service.start()
        service.wait()
    threading.Thread(target=_when_ready, args=(service, ready), daemon=True).start()
    if service.failed is None:
        servers[0].run(sockets=[bound])
    if service.failed is not None:
        raise service.failed


class _Server(uvicorn.Server):
    """uvicorn's, that lets the service end what runs, and leaves the exit code alone."""

    def __init__(self, config: uvicorn.Config, service: Service) -> None:
        super().__init__(config)
        self._service = service

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Refuse what comes now, and wait for what runs."""
        self._service.drain()
        await super().shutdown(sockets)

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """End at a signal, without dying of it afterwards."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.signal(number, self._signalled) for number in SIGNALS}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _signalled(self, number: int, frame: FrameType | None) -> None:
        self.handle_exit(number, frame)


SIGNALS = (signal.SIGINT, signal.SIGTERM)


def _config(service: Service) -> uvicorn.Config:
    settings = service.settings
    return uvicorn.Config(
        build_app(service),
        log_config=None,
        access_log=settings.access_log,
        server_header=False,
        ws="none",
        lifespan="on",
        backlog=BACKLOG,
        limit_concurrency=MOST_CONNECTIONS,
        timeout_keep_alive=30,
        timeout_graceful_shutdown=int(settings.limits.grace) + _STEADY,
    )


def _end(servers: list[_Server]) -> None:
    for server in servers:
        server.should_exit = True


def _when_ready(service: Service, ready: Callable[[], None]) -> None:
    service.wait()
    if service.state == "ok":
        ready()


def _log_to_stderr(access_log: bool) -> None:
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s"))
    for name, level in (
        ("uvicorn.error", logging.WARNING),
        ("uvicorn.access", logging.INFO if access_log else logging.WARNING),
        ("pocketgpt.server", logging.WARNING),
    ):
        logger = logging.getLogger(name)
        logger.handlers, logger.propagate = [handler], False
        logger.setLevel(level)
