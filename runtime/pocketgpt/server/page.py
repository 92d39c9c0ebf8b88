"""The page at /: one file, nothing from elsewhere, and a policy that lets nothing else in."""

from __future__ import annotations

import base64
import hashlib
import re
from functools import cache
from pathlib import Path

from starlette.requests import Request
from starlette.responses import Response

FILE = Path(__file__).with_name("page.html")


async def page(request: Request) -> Response:
    """Return the page."""
    content, policy = _read()
    headers = {
        "content-security-policy": policy,
        "referrer-policy": "no-referrer",
        "x-content-type-options": "nosniff",
    }
    return Response(content, headers=headers, media_type="text/html")


@cache
def _read() -> tuple[bytes, str]:
    """Return the page, and a policy that allows its own script and style alone."""
    content = FILE.read_bytes()
    hashes = {name: _hash(content, name) for name in ("script", "style")}
    allowed = " ".join(f"{name}-src '{value}';" for name, value in hashes.items())
    others = "connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'"
    return content, f"default-src 'none'; {allowed} {others}; frame-ancestors 'none'"


def _hash(content: bytes, element: str) -> str:
    found = re.search(rb"<%b>(.*?)</%b>" % ((element.encode(),) * 2), content, re.DOTALL)
    assert found is not None, element
    digest = hashlib.sha256(found[1]).digest()
    return f"sha256-{base64.b64encode(digest).decode()}"
