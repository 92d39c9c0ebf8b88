"""Token ids: one, several, sequences of them, and numbers for them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from ... import validate
from .base import FrozenMapping, Kind, is_list, items_of, number_of, numbers_of, split_once


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
        if self.single and not is_list(value):
            return validate.whole(name, value, at_least=0)
        items = items_of(name, value, self.says)
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
        sequences = items_of(name, value, self.says)
        if not all(is_list(sequence) and len(sequence) for sequence in sequences):
            raise validate.refused(name, self.says, value)
        return tuple(
            tuple(validate.whole(name, item, at_least=0) for item in sequence)
            for sequence in sequences
        )

    def parse(self, name: str, given: Sequence[str]) -> Any:
        return [numbers_of(name, text, self.form, int) for text in given]

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
        parts = [split_once(name, text, "=", self.form) for text in given]
        return {
            number_of(name, left, self.form, int): number_of(name, right, self.form, float)
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
        pairs = items_of(name, pairs, self.says)
        if not all(
            is_list(pair) and len(pair) == 2 and is_list(pair[0]) and len(pair[0]) for pair in pairs
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
        parts = [split_once(name, text, "=", self.form) for text in given]
        return {
            tuple(numbers_of(name, left, self.form, int)): number_of(name, right, self.form, float)
            for left, right in parts
        }

    def token_ids(self, value: FrozenMapping[tuple[int, ...], float]) -> Iterable[int]:
        return (token_id for sequence in value for token_id in sequence)


def _from_json_key(key: object) -> object:
    """Return the number that a JSON object's key spells; anything else as it is."""
    return int(key) if isinstance(key, str) and key.isascii() and key.isdigit() else key
