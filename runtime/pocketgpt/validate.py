"""Checks of values from outside: each returns the value in plain Python's own type, or refuses it.

A refusal names the value, says what it should be and what it is. NumPy's numbers are numbers here.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal, overload

import numpy as np

from .errors import OptionError


@overload
def whole(name: str, value: object, *, at_least: int, optional: Literal[False] = False) -> int: ...
@overload
def whole(name: str, value: object, *, at_least: int, optional: bool) -> int | None: ...
def whole(name: str, value: object, *, at_least: int, optional: bool = False) -> int | None:
    """Return a whole number of at least `at_least`, or None where that is allowed.

    Raises:
        OptionError: `value` is neither; true and false are no numbers.
    """
    if value is None and optional:
        return None
    if isinstance(value, (int, np.integer)) and not isinstance(value, bool) and value >= at_least:
        return int(value)
    raise refused(name, f"a whole number of at least {at_least}", value)


def number(
    name: str,
    value: object,
    *,
    above: float | None = None,
    at_least: float | None = None,
    at_most: float | None = None,
) -> float:
    """Return a finite number within the bounds.

    Raises:
        OptionError: `value` is none; true and false are no numbers.
    """
    plain = _as_float(value)
    if (
        plain is not None
        and (above is None or plain > above)
        and (at_least is None or plain >= at_least)
        and (at_most is None or plain <= at_most)
    ):
        return plain
    raise refused(name, bounds(above, at_least, at_most), value)


def bounds(above: float | None, at_least: float | None, at_most: float | None) -> str:
    """Say in words what a number should be."""
    limits = {"above": above, "at least": at_least, "at most": at_most}
    said = [f"{word} {limit:g}" for word, limit in limits.items() if limit is not None]
    return " and ".join(said) or "a number"


def one_of(name: str, value: object, choices: Sequence[object]) -> Any:
    """Return `value` where it is one of `choices`, of the same type.

    Raises:
        OptionError: it is none of them.
    """
    if isinstance(value, np.bool_):
        value = bool(value)
    if any(type(value) is type(choice) and value == choice for choice in choices):
        return value
    raise refused(name, f"one of {', '.join(map(repr, choices))}", value)


def refused(name: str, should_be: str, value: object) -> OptionError:
    """Return the error of a value that is not what it should be; one line, however long it is."""
    said = repr(value)
    if len(said) > 200:
        said = f"{said[:200]}..."
    return OptionError(f"{name} should be {should_be}, not {said}")


def _as_float(value: object) -> float | None:
    """Return a finite number as a float; None for anything else."""
    if not isinstance(value, (int, float, np.integer, np.floating)) or isinstance(value, bool):
        return None
    try:
        plain = float(value)
    except OverflowError:  # a whole number beyond every float
        return None
    return plain if math.isfinite(plain) else None
