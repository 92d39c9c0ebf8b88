"""Checks of option values; a refusal names the option, says what it should be and what it is."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from .errors import OptionError


def whole(name: str, value: object, *, at_least: int, optional: bool = False) -> None:
    """Require a whole number of at least `at_least`, or None where that is allowed."""
    if value is None and optional:
        return
    if not isinstance(value, int) or isinstance(value, bool) or value < at_least:
        raise OptionError(f"{name} should be a whole number of at least {at_least}, not {value!r}")


def is_number(value: object) -> bool:
    """Tell whether `value` is a finite number; true and false are none."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def number(
    name: str,
    value: object,
    *,
    above: float | None = None,
    at_least: float | None = None,
    at_most: float | None = None,
    optional: bool = False,
) -> None:
    """Require a finite number within the bounds, or None where that is allowed."""
    if value is None and optional:
        return
    bounds = {"above": above, "at least": at_least, "at most": at_most}
    said = [f"{word} {bound:g}" for word, bound in bounds.items() if bound is not None]
    fits = isinstance(value, (int, float)) and is_number(value)
    if fits:
        assert isinstance(value, (int, float))
        fits = (
            (above is None or value > above)
            and (at_least is None or value >= at_least)
            and (at_most is None or value <= at_most)
        )
    if not fits:
        raise OptionError(f"{name} should be {' and '.join(said) or 'a number'}, not {value!r}")


def one_of(name: str, value: object, choices: Sequence[object]) -> None:
    """Require one of `choices`, of the same type."""
    if not any(value == choice and type(value) is type(choice) for choice in choices):
        said = ", ".join(map(repr, choices))
        raise OptionError(f"{name} should be one of {said}, not {value!r}")


def token_ids(name: str, value: object) -> None:
    """Require a list of token ids."""
    if not isinstance(value, Sequence) or isinstance(value, (str, bytes)):
        raise OptionError(f"{name} should be a list of token ids, not {value!r}")
    for token_id in value:
        whole(name, token_id, at_least=0)


def texts(name: str, value: object) -> None:
    """Require a list of strings, none of them empty."""
    if not isinstance(value, Sequence) or not all(isinstance(text, str) for text in value):
        raise OptionError(f"{name} should be a string or a list of strings, not {value!r}")
    if not all(value):
        raise OptionError(f"{name} holds an empty string, which every text ends with; remove it")


def bias(name: str, value: object) -> None:
    """Require a mapping from token ids to numbers between -100 and 100."""
    if not isinstance(value, Mapping):
        raise OptionError(f"{name} should be a map from token ids to numbers, not {value!r}")
    for token_id, amount in value.items():
        whole(f"a token id in {name}", token_id, at_least=0)
        number(f"{name} of token {token_id}", amount, at_least=-100, at_most=100)
