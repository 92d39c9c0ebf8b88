"""The OpenAPI page at /openapi.json."""

from __future__ import annotations

from typing import Any

from .settings import Settings


def describe(settings: Settings) -> dict[str, Any]:
    """Return what the server answers, in OpenAPI's form."""
    return {}
