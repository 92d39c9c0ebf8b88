"""Checks of what a JSON file says; a value that does not hold is a ValueError with its name."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping

_SHA256 = re.compile(r"[0-9a-f]{64}")
_LONGEST_TEXT = 4096


def is_whole(value: object, least: int, most: int = 2**63 - 1) -> bool:
    """Tell whether `value` is a whole number from `least` to `most`; true and false are none."""
    return isinstance(value, int) and not isinstance(value, bool) and least <= value <= most


def is_number(value: object) -> bool:
    """Tell whether `value` is a finite float, or a whole number that is one."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return False
    return abs(value) < 2**63 if isinstance(value, int) else math.isfinite(value)


def is_sha256(value: object) -> bool:
    """Tell whether `value` is a SHA-256 in hexadecimal."""
    return isinstance(value, str) and _SHA256.fullmatch(value) is not None


def is_line(value: object) -> bool:
    """Tell whether `value` is one line of text that a terminal can be shown."""
    return isinstance(value, str) and len(value) <= _LONGEST_TEXT and value.isprintable()


def is_numbers(value: object) -> bool:
    """Tell whether `value` maps lines of text to numbers."""
    return isinstance(value, Mapping) and all(
        is_line(name) and is_number(number) for name, number in value.items()
    )


def require(name: str, value: object, holds: bool) -> None:
    """Refuse a value that does not hold.

    Raises:
        ValueError: it does not.
    """
    if not holds:
        raise ValueError(f"{name} cannot be {shown(value)}")


def shown(value: object) -> str:
    """Return a value as a line of bearable length."""
    if isinstance(value, int) and value.bit_length() > 64:
        return "a number of more than 64 bits"
    if isinstance(value, (list, dict, tuple)):
        return f"a {type(value).__name__} of {len(value)}"
    text = ascii(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
