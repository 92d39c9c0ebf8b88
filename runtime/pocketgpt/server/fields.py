"""A request's JSON object, field by field: each is taken by the kind of value that it has to be.

null stands for what is not said, as in OpenAI's API. What nobody has taken at the end is unknown.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from .errors import wrong


class Fields:
    """The fields of one object."""

    def __init__(self, values: Mapping[str, Any], within: str = "") -> None:
        """Read from `values`; `within` is what errors put before a field's name."""
        self._values = values
        self._within = within
        self._taken: set[str] = set()

    def any(self, name: str) -> Any:
        """Take a field as it is; None where it is not said."""
        self._taken.add(name)
        return self._values.get(name)

    def whole(
        self, name: str, default: int | None, at_least: int, at_most: int | None = None
    ) -> int | None:
        """Take a whole number within bounds."""
        value = self.any(name)
        if value is None:
            return default
        if (
            not isinstance(value, int)
            or isinstance(value, bool)
            or value < at_least
            or (at_most is not None and value > at_most)
        ):
            bounds = f"of at least {at_least}"
            if at_most is not None:
                bounds = f"from {at_least} to {at_most}"
            raise self.refused(name, f"a whole number {bounds}", value)
        return value

    def number(self, name: str, at_least: float, at_most: float) -> float | None:
        """Take a number within bounds."""
        value = self.any(name)
        if value is None:
            return None
        if (
            not isinstance(value, (int, float))
            or isinstance(value, bool)
            or not (at_least <= value <= at_most)
            or not math.isfinite(value)
        ):
            raise self.refused(name, f"a number from {at_least:g} to {at_most:g}", value)
        return float(value)

    def switch(self, name: str, default: bool = False) -> bool:
        """Take true or false."""
        value = self.any(name)
        if value is None:
            return default
        if not isinstance(value, bool):
            raise self.refused(name, "true or false", value)
        return value

    def text(self, name: str, default: str | None = None) -> str | None:
        """Take a string."""
        value = self.any(name)
        if value is None:
            return default
        if not isinstance(value, str):
            raise self.refused(name, "a string", value)
        return value

    def inner(self, name: str) -> Fields | None:
        """Take an object; return its fields."""
        value = self.any(name)
        if value is None:
            return None
        if not isinstance(value, dict):
            raise self.refused(name, "an object", value)
        return Fields(value, f"{self._within}{name}.")

    def ignore(self, *names: str) -> None:
        """Pass over fields that change nothing here."""
        self._taken.update(names)

    def unsupported(self, name: str, why: str, neutral: Sequence[Any] = ()) -> None:
        """Refuse a field that asks for something, unless it has a value that asks for nothing."""
        value = self.any(name)
        if value is not None and not any(
            value == one and isinstance(value, bool) == isinstance(one, bool) for one in neutral
        ):
            raise wrong(
                f"{self._within}{name} is not supported: {why}",
                self._within + name,
                "unsupported_parameter",
            )

    def finish(self) -> None:
        """Refuse what nobody has taken."""
        for name in self._values:
            if name not in self._taken:
                raise wrong(
                    f"Unrecognized request argument supplied: {self._within}{name!s:.80}",
                    f"{self._within}{name!s:.80}",
                    "unknown_parameter",
                )

    def refused(self, name: str, should_be: str, value: object) -> Exception:
        """Return the error of a field that is not what it should be."""
        said = repr(value)
        said = f"{said[:100]}..." if len(said) > 100 else said
        full = self._within + name
        return wrong(f"{full} should be {should_be}, not {said}", full, "invalid_value")
