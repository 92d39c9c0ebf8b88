"""Names that a folder's own files give to files: plain ones, and never out of the folder."""

from __future__ import annotations

import re
from pathlib import Path

from ..errors import ModelFolderError

# Letters, digits and signs that mean the same on every system; no first dot, so neither `..`.
_PLAIN = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+-]{0,127}")


def is_plain_name(name: object) -> bool:
    """Tell whether `name` is a plain file name: no folder, no drive, nothing hidden."""
    return isinstance(name, str) and _PLAIN.fullmatch(name) is not None


def is_plain_path(path: object) -> bool:
    """Tell whether `path` is plain names joined by slashes: relative, and downwards only."""
    return isinstance(path, str) and all(map(is_plain_name, path.split("/")))


def check_inside(folder: Path, path: str) -> Path:
    """Return where `path` lies in `folder`.

    The Hugging Face cache keeps a snapshot's files beside it: `snapshots/REVISION/config.json` is a
    link to `../../blobs/SHA`. Such links are followed, and no others that lead out.

    Args:
        folder: a model folder.
        path: relative to it, by `is_plain_path`.

    Raises:
        ModelFolderError: it is a link that leaves the folder, or links in circles.
    """
    try:
        home, target = folder.resolve(), (folder / path).resolve()
    except (OSError, RuntimeError) as error:  # the latter for a circle, before Python 3.13
        raise ModelFolderError(f"{folder / path} cannot be followed: {error}") from None
    blobs = home.parent.parent / "blobs"
    in_cache = home.parent.name == "snapshots" and target.is_relative_to(blobs)
    if not (target.is_relative_to(home) or in_cache):
        raise ModelFolderError(
            f"{folder / path} is a link that leaves the folder; put the file itself in its place"
        )
    return folder / path
