"""What a kind of value is: how it is checked, kept, and read from a flag's text."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Generic, TypeVar

import numpy as np

from ... import validate

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


def is_list(value: object) -> bool:
    """Tell whether `value` is a list or the like of it, an array too, and no text."""
    if isinstance(value, np.ndarray):
        return value.ndim > 0
    return isinstance(value, Sequence) and not isinstance(value, (str, bytes))


def items_of(name: str, value: object, form: str) -> Sequence[Any]:
    """Return a list or the items of an array; refuse anything else, with the `form` to have."""
    if not is_list(value):
        raise validate.refused(name, form, value)
    items: Sequence[Any] = value.tolist() if isinstance(value, np.ndarray) else value  # type: ignore[assignment]
    return items


def split_once(name: str, text: str, separator: str, form: str) -> tuple[str, str]:
    """Split a flag's text in two; a refusal says the `form` that it should have."""
    left, found, right = text.partition(separator)
    if not found:
        raise validate.refused(name, form, text)
    return left, right


def numbers_of(name: str, text: str, form: str, kind: Callable[[str], Any]) -> list[Any]:
    """Read numbers between commas; a refusal says the `form` that they should have."""
    return [number_of(name, part, form, kind) for part in text.split(",")]


def number_of(name: str, text: str, form: str, kind: Callable[[str], Any]) -> Any:
    """Read one number; a refusal says the `form` that it should have."""
    try:
        return kind(text)
    except ValueError:
        raise validate.refused(name, form, text) from None
