"""Numbers, truth values, words, texts and functions."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from ... import validate
from ...errors import OptionError
from .base import Kind, items_of, number_of, split_once


@dataclass(frozen=True)
class Whole(Kind):
    """A whole number of at least `at_least`."""

    at_least: int = 0
    flag: ClassVar[Any] = int

    @property
    def says(self) -> str:
        return f"a whole number of at least {self.at_least}"

    def read(self, name: str, value: object) -> int:
        return validate.whole(name, value, at_least=self.at_least)


@dataclass(frozen=True)
class Number(Kind):
    """A finite number within bounds; `hint` is added to a refusal."""

    above: float | None = None
    at_least: float | None = None
    at_most: float | None = None
    hint: str = ""
    flag: ClassVar[Any] = float

    @property
    def says(self) -> str:
        return validate.bounds(self.above, self.at_least, self.at_most)

    def read(self, name: str, value: object) -> float:
        try:
            return validate.number(
                name, value, above=self.above, at_least=self.at_least, at_most=self.at_most
            )
        except OptionError as error:
            raise OptionError(f"{error}{self.hint}") from None


@dataclass(frozen=True)
class Switch(Kind):
    """True or false."""

    flag: ClassVar[Any] = bool

    @property
    def says(self) -> str:
        return "True or False"

    def read(self, name: str, value: object) -> bool:
        return bool(validate.one_of(name, value, (True, False)))


@dataclass(frozen=True)
class Choice(Kind):
    """One of a few words, or of words and truth values."""

    choices: tuple[object, ...] = ()
    flag: ClassVar[Any] = str

    @property
    def says(self) -> str:
        return f"one of {', '.join(map(repr, self.choices))}"

    def read(self, name: str, value: object) -> Any:
        return validate.one_of(name, value, self.choices)

    def parse(self, name: str, given: str) -> Any:
        words = {"true": True, "false": False}
        return words.get(given, given) if True in self.choices else given


@dataclass(frozen=True)
class Decay(Kind):
    """A whole number and a factor: where something begins, and how fast it grows from there."""

    flag: ClassVar[Any] = str
    form: ClassVar[str] = "START,FACTOR"

    @property
    def says(self) -> str:
        return "a pair of a whole number and a factor"

    def read(self, name: str, value: object) -> tuple[int, float]:
        pair = items_of(name, value, self.says)
        if len(pair) != 2:
            raise validate.refused(name, self.says, value)
        start, factor = pair
        return (
            validate.whole(f"the start of {name}", start, at_least=0),
            validate.number(f"the factor of {name}", factor, above=0),
        )

    def parse(self, name: str, given: str) -> Any:
        start, factor = split_once(name, given, ",", self.form)
        return number_of(name, start, self.form, int), number_of(name, factor, self.form, float)


@dataclass(frozen=True)
class Texts(Kind):
    """Strings, none of them empty; where `single`, one alone may stand for a list of it."""

    single: bool = False
    flag: ClassVar[Any] = list[str]

    @property
    def says(self) -> str:
        return "a string or a list of strings" if self.single else "a list of strings"

    def read(self, name: str, value: object) -> str | tuple[str, ...]:
        texts = (value,) if self.single and isinstance(value, str) else value
        items = items_of(name, texts, self.says)
        if not all(isinstance(text, str) for text in items):
            raise validate.refused(name, self.says, value)
        if not all(items):
            raise OptionError(f"{name} holds an empty string, which is found everywhere; remove it")
        return value if isinstance(value, str) else tuple(items)


@dataclass(frozen=True)
class Text(Kind):
    """A text that is not empty."""

    flag: ClassVar[Any] = str

    @property
    def says(self) -> str:
        return "a text"

    def read(self, name: str, value: object) -> str:
        if not isinstance(value, str) or not value or not _is_unicode(value):
            raise validate.refused(name, self.says, value)
        return value


@dataclass(frozen=True)
class LongText(Text):
    """A text that a flag may name a file for: `@FILE`."""

    form: ClassVar[str] = "TEXT or @FILE"

    def parse(self, name: str, given: str) -> str:
        if not given.startswith("@"):
            return given
        try:
            return Path(given[1:]).read_text("utf-8-sig")
        except (OSError, UnicodeDecodeError, ValueError) as error:
            raise OptionError(f"{name} cannot be read from {given[1:]!r}: {error}") from None


@dataclass(frozen=True)
class Json(LongText):
    """A JSON object, or its text; kept as text."""

    @property
    def says(self) -> str:
        return "a JSON schema, as a dictionary or as text"

    def read(self, name: str, value: object) -> str:
        try:
            schema = json.loads(value) if isinstance(value, str) else value
            text = json.dumps(dict(schema) if isinstance(schema, Mapping) else None)
        except (ValueError, TypeError, RecursionError) as error:
            raise OptionError(f"{name} should be {self.says}, and is no JSON: {error}") from None
        if text == "null":
            raise validate.refused(name, self.says, value)
        return text


@dataclass(frozen=True)
class Callables(Kind):
    """Functions."""

    @property
    def says(self) -> str:
        return "a list of functions of token ids and logits"

    def read(self, name: str, value: object) -> tuple[Callable[..., Any], ...]:
        functions = items_of(name, value, self.says)
        if not all(map(callable, functions)):
            raise validate.refused(name, self.says, value)
        return tuple(functions)


def _is_unicode(text: str) -> bool:
    """Tell whether a text can be written as UTF-8, which one with lone surrogates cannot."""
    return not any("\ud800" <= character <= "\udfff" for character in text)
