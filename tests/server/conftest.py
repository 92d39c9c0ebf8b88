"""A server in the test's own process, and one over a real socket."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("starlette", reason="needs the extra server")
pytest.importorskip("uvicorn", reason="needs the extra server")
pytest.importorskip("prometheus_client", reason="needs the extra server")

import uvicorn
from starlette.testclient import TestClient

import pocketgpt
from pocketgpt.server.app import build_app
from pocketgpt.server.served import Catalog, Served
from pocketgpt.server.service import Service
from pocketgpt.server.settings import Limits, ModelSpec, Settings

BASE = "http://127.0.0.1"
HOSTS = ("127.0.0.1", "localhost", "::1")
NAME = "tiny"


def chat_of(turns: Any) -> str:
    return "".join(f"{turn['role']}: {turn['content']}\n" for turn in turns) + "assistant:"


def service_of(model: pocketgpt.Model, folder: Path, **changes: Any) -> Service:
    """A service of two names: `tiny`, with a chat template, and `bare`, without one."""
    limits = Limits(**changes.pop("limits", {}))
    settings = Settings((ModelSpec(NAME, folder),), limits, hosts=HOSTS, **changes)
    served = [Served(NAME, model, None, 1700000000, chat_of), Served("bare", model, None, 1)]
    return Service(settings, load=lambda _: Catalog(served))


class Client(TestClient):
    """Asks, and gives the JSON back."""

    service: Service

    def ask(self, path: str = "/v1/completions", status: int = 200, **fields: Any) -> Any:
        response = self.post(path, content=json.dumps(fields))
        assert response.status_code == status, response.text
        return response.json()

    def refused(self, path: str = "/v1/completions", status: int = 400, **fields: Any) -> Any:
        error = self.ask(path, status, **fields)["error"]
        assert set(error) == {"message", "type", "param", "code"}
        return error


@contextlib.contextmanager
def client_of(service: Service) -> Iterator[Client]:
    with Client(build_app(service), base_url=BASE) as client:
        client.service = service
        service.wait()
        yield client


@pytest.fixture(scope="module")
def client(tiny: pocketgpt.Model, tiny_folder: Path) -> Iterator[Client]:
    with client_of(service_of(tiny, tiny_folder)) as client:
        yield client


Start = Callable[..., tuple[str, Service]]


@pytest.fixture
def start(tiny: pocketgpt.Model, tiny_folder: Path) -> Iterator[Start]:
    """Start a server on a free port; return its URL and its service."""
    running: list[tuple[uvicorn.Server, threading.Thread]] = []

    def begin(**changes: Any) -> tuple[str, Service]:
        service = service_of(tiny, tiny_folder, **changes)
        bound = socket.create_server(("127.0.0.1", 0))
        config = uvicorn.Config(build_app(service), log_config=None, lifespan="on", ws="none")
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, args=([bound],), daemon=True)
        thread.start()
        while not server.started:
            time.sleep(0.01)
        service.wait()
        running.append((server, thread))
        return f"{BASE}:{bound.getsockname()[1]}", service

    yield begin
    for server, thread in running:
        server.should_exit = True
        thread.join(20)
