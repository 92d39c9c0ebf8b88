"""JSON: writing what it can say, and reading files that may hold anything, errors in a line."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..errors import ModelFolderError, PocketGPTError
from .files import StoredFile, stored

_MARK = "\ufeff"  # a byte order mark, as Windows' editors put before a text
LARGEST = 64 * 2**20  # bytes; tokenizer.json, the largest of a model's, has a few million


def read_json_object(
    path: Path | StoredFile,
    error: type[PocketGPTError] = ModelFolderError,
    *,
    remedy: str = "export the model again",
    largest: int = LARGEST,
) -> dict[str, Any]:
    """Read a JSON object.

    Args:
        path: the file, UTF-8.
        error: what to raise.
        remedy: what to do about a file that is missing or damaged.
        largest: bytes the file may have.

    Raises:
        PocketGPTError: `error`: the file is missing, no file, too large, no JSON, nested too deeply
            or another value than an object.
    """
    try:
        value = json.loads(read_bounded(path, largest).removeprefix(_MARK))
    except (FileNotFoundError, NotADirectoryError):  # the latter beneath a package
        raise error(f"{path} is missing; {remedy}") from None
    except RecursionError:
        raise error(f"{path} cannot be read: it is nested too deeply; {remedy}") from None
    except (OSError, ValueError) as reason:  # of which no JSON, no UTF-8 and too many digits are
        raise error(f"{path} cannot be read: {reason}; {remedy}") from None
    if not isinstance(value, dict):
        raise error(f"{path} cannot be read: it should hold a JSON object; {remedy}")
    return value


def json_text(content: Any) -> str:
    """Return what a JSON file of ours says."""
    return json.dumps(content, indent=2, ensure_ascii=False) + "\n"


def finite(value: Any) -> Any:
    """Return what JSON can say of a value: None in the place of numbers that are not finite."""
    if isinstance(value, Mapping):
        return {key: finite(part) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def read_bounded(path: Path | StoredFile, largest: int = LARGEST) -> str:
    """Read a UTF-8 text of at most `largest` bytes.

    Raises:
        OSError: it cannot be read, or is no file: a pipe would be waited for.
        ValueError: it is larger, damaged, or no UTF-8.
    """
    return stored(path).read(largest).decode("utf-8")
