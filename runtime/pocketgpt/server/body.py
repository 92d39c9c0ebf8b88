"""A request's body: JSON, an object, no larger and no slower than is bounded."""

from __future__ import annotations

import asyncio
import json
from typing import Any, NoReturn

from starlette.requests import ClientDisconnect, Request

from .errors import ApiError, wrong
from .fields import Fields
from .settings import Limits
from .waiting import ClientGoneError


async def read_fields(request: Request, limits: Limits) -> Fields:
    """Read the object that a request brings.

    Raises:
        ApiError: it is too large or too slow, or no JSON object.
        ClientGoneError: the client went away meanwhile.
    """
    try:
        async with asyncio.timeout(limits.upload):
            raw = await _read(request, limits.body)
    except TimeoutError:
        raise ApiError(408, f"the body did not come within {limits.upload:g} seconds") from None
    except ClientDisconnect:
        raise ClientGoneError from None
    return Fields(parse_object(raw))


async def _read(request: Request, most: int) -> bytes:
    parts, size = [], 0
    async for part in request.stream():
        size += len(part)
        if size > most:
            raise ApiError(
                413,
                f"the body has more than {most} bytes; make the request smaller",
                code="too_large",
            )
        parts.append(part)
    return b"".join(parts)


def parse_object(raw: bytes) -> dict[str, Any]:
    """Return the object that JSON text is.

    Raises:
        ApiError: it is none.
    """
    try:
        value = json.loads(raw, parse_constant=_refuse)
    except (ValueError, RecursionError) as error:
        reason = "it is nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise wrong(f"the body is no JSON: {reason:.200}", code="invalid_json") from None
    if not isinstance(value, dict):
        raise wrong("the body should be a JSON object", code="invalid_json")
    return value


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no number of JSON's")
