"""What the endpoints share: the models once they are loaded, the engine, limits, figures."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable

from .engine import Engine, stopping
from .errors import ApiError, unavailable
from .metrics import Metrics
from .served import Catalog, load_all
from .settings import Settings

log = logging.getLogger("pocketgpt.server")


class Service:
    """Loads the models in a thread of its own, so that the server can say that it is loading.

    Attributes:
        settings: what it was told.
        metrics: the figures.
        failed: why the models could not be loaded.
    """

    def __init__(
        self,
        settings: Settings,
        load: Callable[[Settings], Catalog] | None = None,
        on_end: Callable[[], None] = lambda: None,
    ) -> None:
        """Take the settings; `start` loads.

        Args:
            settings: what to serve, and how.
            load: what returns the models; `load_all` if None.
            on_end: called, in any thread, where they cannot be loaded.
        """
        self.settings = settings
        self.metrics = Metrics()
        self.failed: Exception | None = None
        self._load = load or (lambda told: load_all(told.models, told.limits.prefix_cache))
        self._on_end = on_end
        self._ready: tuple[Catalog, Engine] | None = None
        self._stopping = False
        self._lock = threading.Lock()
        self._begun = False
        self._done = threading.Event()

    def start(self) -> None:
        """Begin to load; once is enough."""
        with self._lock:
            begun, self._begun = self._begun, True
        if not begun:
            threading.Thread(target=self._run, name="pocketgpt-load", daemon=True).start()

    def wait(self) -> None:
        """Wait until the models are loaded, or cannot be."""
        self._done.wait()

    @property
    def state(self) -> str:
        """`loading`, `ok`, `failed` or `stopping`."""
        if self._stopping:
            return "stopping"
        if self.failed is not None:
            return "failed"
        return "ok" if self._ready else "loading"

    @property
    def catalog(self) -> Catalog:
        """The models.

        Raises:
            ApiError: there are none yet.
        """
        return self._get()[0]

    @property
    def engine(self) -> Engine:
        """What computes.

        Raises:
            ApiError: there is none yet, or the server is stopping.
        """
        if self._stopping:
            raise stopping()
        return self._get()[1]

    def drain(self) -> None:
        """Take no more requests; those that run may end, within the time of grace."""
        with self._lock:
            self._stopping = True
        if self._ready:
            self._ready[1].drain(self.settings.limits.grace)

    async def close(self) -> None:
        """End all that runs, now."""
        self._stopping = True
        if self._ready:
            engine = self._ready[1]
            engine.drain(0)
            await asyncio.to_thread(engine.join, 10.0)

    def _get(self) -> tuple[Catalog, Engine]:
        if self._ready is None:
            if self.failed is not None:
                raise ApiError(500, "the models could not be loaded", type="server_error")
            raise unavailable("the models are being loaded; try again soon", "loading")
        return self._ready

    def _run(self) -> None:
        try:
            catalog = self._load(self.settings)
            engine = Engine(catalog, self.settings.limits, self.metrics)
        except Exception as error:
            self.failed = error
            self._done.set()
            self._on_end()
            return
        self.metrics.refresh = self._refresh
        engine.start()
        with self._lock:
            self._ready = catalog, engine
        if self._stopping:
            engine.drain(0)
        self._done.set()

    def _refresh(self) -> None:
        catalog, engine = self._get()
        for name, served in catalog.items():
            running, waiting = engine.depth(name)
            self.metrics.depth(name, running, waiting, served.model.prefixes.bytes)
