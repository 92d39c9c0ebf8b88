"""What kinds of value an option takes: how each is checked, kept, and read from a flag's text.

A kind's `read` returns the value as options keep it, plain and immutable, and so hashable; its
`flag` is what the command line takes (a list: a flag that may be given several times), and `parse`
turns that into what `read` takes.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Generic, TypeVar

from .. import validate
from ..errors import OptionError

Key = TypeVar("Key")
Value = TypeVar("Value")


class FrozenMapping(Mapping[Key, Value], Generic[Key, Value]):
    """A map that nobody can change: what options keep of a dictionary given to them."""

    def __init__(self, items: Iterable[tuple[Key, Value]] = ()) -> None:
        """Keep a copy of `items`."""
        self._items = dict(items)

    def __getitem__(self, key: Key) -> Value:
        return self._items[key]

    def __iter__(self) -> Iterator[Key]:
        return iter(self._items)

    def __len__(self) -> int:
        return len(self._items)

    def __hash__(self) -> int:
        return hash(frozenset(self._items.items()))

    def __repr__(self) -> str:
        return repr(self._items)


@dataclass(frozen=True)
class Kind:
    """The base of all kinds; as such, any value at all, and no flag."""

    flag: ClassVar[Any] = None
    form: ClassVar[str] = ""  # how a flag's text is written, where that is not plain

    @property
    def says(self) -> str:
        """What a value should be, in words."""
        return "anything"

    def read(self, name: str, value: object) -> Any:
        """Return the value as options keep it.

        Raises:
            OptionError: it is not of this kind; the message begins with `name`.
        """
        return value

    def parse(self, name: str, given: Any) -> Any:
        """Turn a flag's value, or list of values, into what `read` takes.

        Raises:
            OptionError: it cannot be read.
        """
        return given

    def token_ids(self, value: Any) -> Iterable[int]:
        """Return the token ids in a value that was read."""
        return ()


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
class TokenId(Kind):
    """A token id."""

    flag: ClassVar[Any] = int

    @property
    def says(self) -> str:
        return "a token id"

    def read(self, name: str, value: object) -> int:
        return validate.whole(name, value, at_least=0)

    def token_ids(self, value: int) -> Iterable[int]:
        return (value,)


@dataclass(frozen=True)
class TokenIds(Kind):
    """Several token ids; where `single`, one alone may stand for a list of it."""

    single: bool = False
    flag: ClassVar[Any] = list[int]

    @property
    def says(self) -> str:
        return "a token id, or a list of them" if self.single else "a list of token ids"

    def read(self, name: str, value: object) -> int | tuple[int, ...]:
        if self.single and not _is_list(value):
            return validate.whole(name, value, at_least=0)
        items = _items(name, value, self.says)
        return tuple(validate.whole(name, item, at_least=0) for item in items)

    def token_ids(self, value: int | tuple[int, ...]) -> Iterable[int]:
        return value if isinstance(value, tuple) else (value,)


@dataclass(frozen=True)
class TokenSequences(Kind):
    """Several sequences of token ids, none of them empty."""

    flag: ClassVar[Any] = list[str]
    form: ClassVar[str] = "ID,ID,..."

    @property
    def says(self) -> str:
        return "a list of lists of token ids, none empty"

    def read(self, name: str, value: object) -> tuple[tuple[int, ...], ...]:
        sequences = _items(name, value, self.says)
        if not all(_is_list(sequence) and len(sequence) for sequence in sequences):
            raise validate.refused(name, self.says, value)
        return tuple(
            tuple(validate.whole(name, item, at_least=0) for item in sequence)
            for sequence in sequences
        )

    def parse(self, name: str, given: Sequence[str]) -> Any:
        return [_numbers(name, text, self.form, int) for text in given]

    def token_ids(self, value: tuple[tuple[int, ...], ...]) -> Iterable[int]:
        return (token_id for sequence in value for token_id in sequence)


@dataclass(frozen=True)
class TokenBias(Kind):
    """A map from token ids to numbers between -`most` and `most`; JSON's keys, text, are read."""

    most: float = 100
    flag: ClassVar[Any] = list[str]
    form: ClassVar[str] = "ID=NUMBER"

    @property
    def says(self) -> str:
        return "a map from token ids to numbers"

    def read(self, name: str, value: object) -> FrozenMapping[int, float]:
        if not isinstance(value, Mapping):
            raise validate.refused(name, self.says, value)
        return FrozenMapping(
            (
                validate.whole(f"a token id in {name}", _from_json_key(key), at_least=0),
                validate.number(
                    f"{name} of token {key}", amount, at_least=-self.most, at_most=self.most
                ),
            )
            for key, amount in value.items()
        )

    def parse(self, name: str, given: Sequence[str]) -> Any:
        parts = [_split(name, text, "=", self.form) for text in given]
        return {
            _numbers(name, left, self.form, int)[0]: _numbers(name, right, self.form, float)[0]
            for left, right in parts
        }

    def token_ids(self, value: FrozenMapping[int, float]) -> Iterable[int]:
        return value


@dataclass(frozen=True)
class SequenceBias(Kind):
    """A map from tuples of token ids to numbers, or as JSON has it a list of `[ids, number]`."""

    flag: ClassVar[Any] = list[str]
    form: ClassVar[str] = "ID,ID,...=NUMBER"

    @property
    def says(self) -> str:
        return "a map from tuples of token ids to numbers, or a list of [ids, number]"

    def read(self, name: str, value: object) -> FrozenMapping[tuple[int, ...], float]:
        pairs = list(value.items()) if isinstance(value, Mapping) else value
        pairs = _items(name, pairs, self.says)
        if not all(
            _is_list(pair) and len(pair) == 2 and _is_list(pair[0]) and len(pair[0])
            for pair in pairs
        ):
            raise validate.refused(name, self.says, value)
        return FrozenMapping(
            (
                tuple(validate.whole(f"a token id in {name}", item, at_least=0) for item in ids),
                validate.number(f"a bias in {name}", amount),
            )
            for ids, amount in pairs
        )

    def parse(self, name: str, given: Sequence[str]) -> Any:
        parts = [_split(name, text, "=", self.form) for text in given]
        return {
            tuple(_numbers(name, left, self.form, int)): _numbers(name, right, self.form, float)[0]
            for left, right in parts
        }

    def token_ids(self, value: FrozenMapping[tuple[int, ...], float]) -> Iterable[int]:
        return (token_id for sequence in value for token_id in sequence)


@dataclass(frozen=True)
class Decay(Kind):
    """A whole number and a factor: where something begins, and how fast it grows from there."""

    flag: ClassVar[Any] = str
    form: ClassVar[str] = "START,FACTOR"

    @property
    def says(self) -> str:
        return "a pair of a whole number and a factor"

    def read(self, name: str, value: object) -> tuple[int, float]:
        pair = _items(name, value, self.says)
        if len(pair) != 2:
            raise validate.refused(name, self.says, value)
        start, factor = pair
        return (
            validate.whole(f"the start of {name}", start, at_least=0),
            validate.number(f"the factor of {name}", factor, above=0),
        )

    def parse(self, name: str, given: str) -> Any:
        start, factor = _split(name, given, ",", self.form)
        return _numbers(name, start, self.form, int)[0], _numbers(name, factor, self.form, float)[0]


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
        items = _items(name, texts, self.says)
        if not all(isinstance(text, str) for text in items):
            raise validate.refused(name, self.says, value)
        if not all(items):
            raise OptionError(f"{name} holds an empty string, which is found everywhere; remove it")
        return value if isinstance(value, str) else tuple(items)


@dataclass(frozen=True)
class Text(Kind):
    """A text that is not empty; a flag's may name a file that holds it: `@FILE`."""

    flag: ClassVar[Any] = str
    form: ClassVar[str] = "TEXT or @FILE"

    @property
    def says(self) -> str:
        return "a text"

    def read(self, name: str, value: object) -> str:
        if not isinstance(value, str) or not value or not _is_unicode(value):
            raise validate.refused(name, self.says, value)
        return value

    def parse(self, name: str, given: str) -> str:
        if not given.startswith("@"):
            return given
        try:
            return Path(given[1:]).read_text("utf-8")
        except (OSError, UnicodeDecodeError, ValueError) as error:
            raise OptionError(f"{name} cannot be read from {given[1:]!r}: {error}") from None


@dataclass(frozen=True)
class Json(Text):
    """A JSON object, or its text; kept as text."""

    @property
    def says(self) -> str:
        return "a JSON schema, as a dictionary or as text"

    def read(self, name: str, value: object) -> str:
        if not isinstance(value, (str, Mapping)):
            raise validate.refused(name, self.says, value)
        try:
            schema = json.loads(value) if isinstance(value, str) else value
            if not isinstance(schema, dict):
                raise validate.refused(name, self.says, value)
            return json.dumps(schema)
        except (ValueError, TypeError, RecursionError) as error:
            if isinstance(error, OptionError):
                raise
            raise OptionError(f"{name} should be {self.says}, and is no JSON: {error}") from None


@dataclass(frozen=True)
class Callables(Kind):
    """Functions."""

    @property
    def says(self) -> str:
        return "a list of functions of token ids and logits"

    def read(self, name: str, value: object) -> tuple[Callable[..., Any], ...]:
        functions = _items(name, value, self.says)
        if not all(map(callable, functions)):
            raise validate.refused(name, self.says, value)
        return tuple(functions)


def _is_unicode(text: str) -> bool:
    """Tell whether a text can be written as UTF-8, which one with lone surrogates cannot."""
    return not any("\ud800" <= character <= "\udfff" for character in text)


def _is_list(value: object) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, (str, bytes))


def _items(name: str, value: object, form: str) -> Sequence[Any]:
    if not _is_list(value):
        raise validate.refused(name, form, value)
    assert isinstance(value, Sequence)
    return value


def _from_json_key(key: object) -> object:
    """Return the number that a JSON object's key spells; anything else as it is."""
    return int(key) if isinstance(key, str) and key.isascii() and key.isdigit() else key


def _split(name: str, text: str, separator: str, form: str) -> tuple[str, str]:
    left, found, right = text.partition(separator)
    if not found:
        raise validate.refused(name, form, text)
    return left, right


def _numbers(name: str, text: str, form: str, kind: Callable[[str], Any]) -> list[Any]:
    try:
        return [kind(part) for part in text.split(",")]
    except ValueError:
        raise validate.refused(name, form, text) from None
