"""Putting a finished folder in place of an old one, so that one of the two is always there."""

from __future__ import annotations

import ctypes
import os
import platform
from pathlib import Path

_AT_FDCWD, _RENAME_EXCHANGE = -100, 2  # Linux, linux/fs.h
_RENAME_SWAP = 2  # macOS, sys/stdio.h


def install(staging: Path, folder: Path) -> None:
    """Rename `staging` to `folder`; a folder that was there ends up where `staging` was.

    Where the system can swap two names at once, no kill finds the target missing.

    Raises:
        OSError: neither could be renamed; `folder` is as it was.
    """
    if not folder.exists():
        staging.rename(folder)
    elif not _exchange(staging, folder):
        replaced = staging.with_name(f"{staging.name}-replaced")
        folder.rename(replaced)
        try:
            staging.rename(folder)
        except OSError:
            replaced.rename(folder)
            raise
        replaced.rename(staging)


def _exchange(one: Path, other: Path) -> bool:
    """Swap two names in one step; return False where the system or file system cannot."""
    names = os.fsencode(one), os.fsencode(other)
    try:
        library = ctypes.CDLL(None)
        if platform.system() == "Linux":
            flags = ctypes.c_uint(_RENAME_EXCHANGE)
            done = library.renameat2(_AT_FDCWD, names[0], _AT_FDCWD, names[1], flags)
        else:
            done = library.renamex_np(*names, ctypes.c_uint(_RENAME_SWAP))
    except (AttributeError, OSError, TypeError):  # another system, or an older C library
        return False
    return bool(done == 0)
