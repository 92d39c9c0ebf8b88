"""The routes, put together into an ASGI application."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, TypeVar

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ..errors import PocketGPTError
from .answers import Answer
from .body import read_fields
from .call import Call
from .chat import ChatAnswer, ChatRequest, call_for_chat, read_chat
from .completions import (
    CompletionAnswer,
    CompletionRequest,
    call_for_completion,
    read_completion,
)
from .errors import ApiError, as_api_error, wrong
from .fields import Fields
from .guard import Guard
from .openapi import describe
from .page import page
from .served import Served
from .service import Service
from .settings import Limits
from .streaming import EventStream, JsonResponse, error_response
from .tokenizing import detokenize, tokenize
from .waiting import ClientGoneError, collect

Endpoint = Callable[[Request], Awaitable[ASGIApp]]
Asked = TypeVar("Asked", CompletionRequest, ChatRequest)
GONE = 499  # nginx's status of a client that has gone: it stands in the figures alone
log = logging.getLogger("pocketgpt.server")


class Endpoints:
    """What answers each path."""

    def __init__(self, service: Service) -> None:
        self._service = service

    async def completions(self, request: Request) -> ASGIApp:
        """/v1/completions."""
        return await self._answer(request, read_completion, call_for_completion, CompletionAnswer)

    async def chat(self, request: Request) -> ASGIApp:
        """/v1/chat/completions."""
        return await self._answer(request, read_chat, call_for_chat, ChatAnswer)

    async def _answer(
        self,
        request: Request,
        read: Callable[[Fields, Served, Limits], Asked],
        call_for: Callable[[Asked, Served, Limits, asyncio.AbstractEventLoop], Call],
        answer_to: Callable[[Asked, Call], Answer],
    ) -> ASGIApp:
        """Read a request, hand its texts to the engine, and answer whole or piece by piece."""
        fields = await read_fields(request, self._service.settings.limits)
        engine, limits = self._service.engine, self._service.settings.limits
        served = self._service.catalog.find(fields.any("model"))
        asked = read(fields, served, limits)
        loop = asyncio.get_running_loop()
        call = await asyncio.to_thread(call_for, asked, served, limits, loop)
        engine.submit(call)
        answer = answer_to(asked, call)
        if asked.delivery.stream:
            return EventStream(answer, engine)
        return JsonResponse(answer.whole(await collect(call, engine, request.receive)))

    async def tokenize(self, request: Request) -> ASGIApp:
        """/tokenize."""
        fields = await read_fields(request, self._service.settings.limits)
        served = self._service.catalog.find(fields.any("model"))
        return JsonResponse(await asyncio.to_thread(tokenize, fields, served))

    async def detokenize(self, request: Request) -> ASGIApp:
        """/detokenize."""
        fields = await read_fields(request, self._service.settings.limits)
        served = self._service.catalog.find(fields.any("model"))
        return JsonResponse(await asyncio.to_thread(detokenize, fields, served))

    async def models(self, request: Request) -> ASGIApp:
        """/v1/models."""
        data = [served.description for served in self._service.catalog.values()]
        return JsonResponse({"object": "list", "data": data})

    async def model(self, request: Request) -> ASGIApp:
        """/v1/models/NAME."""
        return JsonResponse(self._service.catalog.find(request.path_params["name"]).description)

    async def health(self, request: Request) -> ASGIApp:
        """/health: 200 once the models are loaded."""
        state = self._service.state
        return JsonResponse({"status": state}, 200 if state == "ok" else 503)

    async def metrics(self, request: Request) -> ASGIApp:
        """/metrics, for Prometheus."""
        content, kind = await asyncio.to_thread(self._service.metrics.page)
        return Response(content, media_type=kind)

    async def openapi(self, request: Request) -> ASGIApp:
        """/openapi.json."""
        return JsonResponse(describe(self._service.settings))


class Observed:
    """Counts an endpoint's requests, and turns its errors into answers."""

    def __init__(self, endpoint: Endpoint, path: str, service: Service) -> None:
        self._endpoint = endpoint
        self._path = path
        self._service = service

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        begun, status = time.perf_counter(), GONE

        async def noted(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            response = await self._response(Request(scope, receive))
            await response(scope, receive, noted)
        except ClientGoneError:
            pass
        finally:
            self._service.metrics.answered(self._path, status, time.perf_counter() - begun)

    async def _response(self, request: Request) -> ASGIApp:
        try:
            return await self._endpoint(request)
        except ApiError as error:
            return error_response(error)
        except PocketGPTError as error:
            return error_response(as_api_error(error))
        except RecursionError:
            return error_response(wrong("the request is nested too deeply"))


def build_app(service: Service) -> Starlette:
    """Return the application; it starts the service at its own start and ends it at its end."""

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        service.start()
        yield
        await service.close()

    ends = Endpoints(service)
    table: list[tuple[str, str, Endpoint]] = [
        ("POST", "/v1/completions", ends.completions),
        ("POST", "/v1/chat/completions", ends.chat),
        ("GET", "/v1/models", ends.models),
        ("GET", "/v1/models/{name:path}", ends.model),
        ("POST", "/tokenize", ends.tokenize),
        ("POST", "/detokenize", ends.detokenize),
        ("GET", "/health", ends.health),
        ("GET", "/metrics", ends.metrics),
        ("GET", "/openapi.json", ends.openapi),
        ("GET", "/", page),
    ]
    settings = service.settings
    middleware = [
        Middleware(Guard, keys=settings.keys, origins=settings.origins, hosts=settings.hosts)
    ]
    if settings.origins:
        middleware.insert(0, _cors(settings.origins))
    return Starlette(
        routes=[
            Route(path, Observed(endpoint, path, service), methods=[method])
            for method, path, endpoint in table
        ],
        middleware=middleware,
        exception_handlers={HTTPException: _http_error, Exception: _server_error},
        lifespan=lifespan,
    )


def _cors(origins: tuple[str, ...]) -> Middleware:
    return Middleware(
        CORSMiddleware,
        allow_origins=list(origins),
        allow_methods=["GET", "POST"],
        allow_headers=["authorization", "content-type"],
        max_age=600,
    )


async def _http_error(request: Request, error: Exception) -> Response:
    """Answer what no route is for."""
    assert isinstance(error, HTTPException)
    said = {
        404: f"there is nothing at {request.url.path!a:.100}",
        405: "this path takes another method",
    }
    found = ApiError(error.status_code, said.get(error.status_code, error.detail))
    response = error_response(found)
    response.headers.update(error.headers or {})
    return response


async def _server_error(request: Request, error: Exception) -> Response:
    """Answer what is a bug; the log has its traceback."""
    return error_response(ApiError(500, "the server failed; its log says why", type="server_error"))


__all__: list[Any] = ["Service", "build_app"]
