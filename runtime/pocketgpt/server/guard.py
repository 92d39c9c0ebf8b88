"""Who may ask: an API key where the server has some, and no web pages of strangers.

A page in somebody's browser can reach a server on their own machine. It may not read answers, but
by a name that it makes point here (DNS rebinding) it may ask and read both. So a request from a
browser has to come from this server's own page or a named origin, and where the server listens to
its own machine alone, by one of that machine's names.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Sequence
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from .errors import ApiError
from .streaming import error_response

OPEN = ("/", "/health", "/openapi.json")  # paths that need no key: nothing is computed there
LOOPBACK = ("127.0.0.1", "localhost", "::1")


class Guard:
    """Middleware that lets a request through or answers it by an error."""

    def __init__(
        self,
        app: ASGIApp,
        keys: Sequence[str] = (),
        origins: Sequence[str] = (),
        hosts: Sequence[str] | None = None,
    ) -> None:
        """Guard an application; see `Settings` for what the others are."""
        self._app = app
        self._keys = [_digest(key) for key in keys]
        self._origins = origins
        self._hosts = None if hosts is None else {*hosts, *(host_of(one) for one in origins)}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] == "http":
            try:
                self._check(scope)
            except ApiError as error:
                await error_response(error)(scope, receive, send)
                return
        await self._app(scope, receive, send)

    def _check(self, scope: Scope) -> None:
        headers = Headers(scope=scope)
        host = headers.get("host", "")
        if host and self._hosts is not None and host_of(f"//{host}") not in self._hosts:
            raise ApiError(
                403,
                f"this server goes by {', '.join(sorted(self._hosts))}, and not by {host!a:.100}; "
                "start it with --allow-host for more names",
                code="host_not_allowed",
            )
        origin = headers.get("origin")
        if origin and origin not in self._origins and origin.partition("://")[2] != host:
            raise ApiError(
                403,
                f"web pages of {origin!a:.100} may not ask; start the server with --cors-origin "
                "to let them",
                code="origin_not_allowed",
            )
        if self._keys and scope["path"] not in OPEN:
            self._check_key(headers.get("authorization", ""))

    def _check_key(self, authorization: str) -> None:
        """Compare with every key, in a time that tells nothing of any."""
        scheme, _, key = authorization.partition(" ")
        given = _digest(key.strip())
        matches = [hmac.compare_digest(given, known) for known in self._keys]
        if scheme.lower() != "bearer" or not any(matches):
            said = "Incorrect API key provided" if authorization else "No API key was provided"
            raise ApiError(
                401,
                f"{said}: send the header Authorization: Bearer KEY",
                code="invalid_api_key",
            )


def host_of(url: str) -> str:
    """Return the host's name of a URL, without its port; empty where it has none."""
    try:
        return urlsplit(url).hostname or ""
    except ValueError:
        return ""


def _digest(key: str) -> bytes:
    """Return a key's hash: of one length, whatever the key's is."""
    return hashlib.sha256(key.encode("utf-8", "replace")).digest()
