"""JSON files: writing one, and reading one that may hold anything, in a line whatever is wrong."""

from __future__ import annotations

import json
import stat
from pathlib import Path
from typing import Any

from ..errors import ModelFolderError, PocketGPTError

_MARK = "\ufeff"  # a byte order mark, as Windows' editors put before a text
LARGEST = 64 * 2**20  # bytes; tokenizer.json, the largest of a model's, has a few million


def read_json_object(
    path: Path,
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
    except FileNotFoundError:
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


def read_bounded(path: Path, largest: int = LARGEST) -> str:
    """Read a UTF-8 text of at most `largest` bytes.

    Raises:
        OSError: it cannot be read, or is no file: a pipe would be waited for.
        ValueError: it is larger, or no UTF-8.
    """
    if not stat.S_ISREG(path.stat().st_mode):
        raise OSError("it is no file")
    with path.open("rb") as file:
        content = file.read(largest + 1)
    if len(content) > largest:
        raise ValueError(f"it has more than {largest:,} bytes")
    return content.decode("utf-8")
