"""Renewing a setting in a file that others may have edited."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any


def merged(known: Any, before: Sequence[Any], after: Any) -> Any:
    """Return a JSON value renewed: what we wrote is replaced, what others wrote stays.

    Args:
        known: what is there.
        before: what we may have written there, when there was less.
        after: what we would write now.
    """
    if any(_alike(known, value) for value in before):
        return after
    if not (isinstance(known, Mapping) and isinstance(after, Mapping)):
        return known
    parts = [value for value in before if isinstance(value, Mapping)]
    kept: dict[str, Any] = {}
    for name, value in known.items():
        ours = [part[name] for part in parts if name in part]
        if name in after:
            kept[name] = merged(value, ours, after[name])
        elif not any(_alike(value, one) for one in ours):
            kept[name] = value
    return {**kept, **{name: value for name, value in after.items() if name not in kept}}


def _alike(one: Any, other: Any) -> bool:
    """Whether two values are written alike, the order of names included."""
    return json.dumps(one) == json.dumps(other)
