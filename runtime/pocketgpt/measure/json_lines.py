"""A file of JSON lines, an object each: what evaluations are read from."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from ..errors import OptionError

_Line = TypeVar("_Line")


def read_json_lines(
    path: str | os.PathLike[str],
    parse: Callable[[int, Mapping[str, Any]], _Line],
    keys: str,
    example: str,
) -> list[_Line]:
    """Read a file; empty lines are passed over.

    Args:
        path: the file, UTF-8, with a byte order mark or without.
        parse: makes what is wanted of a line's number, from 1, and its object; a ValueError says
            what is wrong with it.
        keys: what an object should have, for whoever wrote another value.
        example: a line, for whoever gave a file without one.

    Raises:
        OptionError: the file cannot be read or has no line, or one is broken; the message has its
            number.
    """
    try:
        lines = Path(path).read_text("utf-8-sig").split("\n")
    except (OSError, ValueError) as error:  # ValueError: no UTF-8, or no name for a file
        raise OptionError(f"{path} cannot be read: {error}") from None
    found = []
    for number, line in enumerate(lines, 1):
        if line.strip():
            try:
                found.append(parse(number, _object(line, keys)))
            except ValueError as error:
                raise OptionError(f"{path}, line {number}: {error}") from None
    if not found:
        raise OptionError(f"{path} has no line; write {example}")
    return found


def _object(line: str, keys: str) -> Mapping[str, Any]:
    try:
        fields = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"no JSON ({error})") from None
    if not isinstance(fields, dict):
        raise ValueError(f"should be an object with {keys}")
    return fields
