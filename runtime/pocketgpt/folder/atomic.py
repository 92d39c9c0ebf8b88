"""Writing without ever leaving a half-written file: beside the target, then renamed over it."""

from __future__ import annotations

import ctypes
import errno
import glob
import os
import platform
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from .json_file import json_text

_AT_FDCWD, _RENAME_EXCHANGE = -100, 2  # Linux, linux/fs.h
_RENAME_SWAP = 2  # macOS, sys/stdio.h


def write_text(path: Path, text: str) -> None:
    """Replace `path` by `text` (UTF-8) in one step: readers see the old file or the new one.

    A file that was there keeps its mode; a new one has what the process gives to new files.
    """
    beside = path.with_name(f".{path.name}.{os.urandom(8).hex()}")
    try:
        with beside.open("x", encoding="utf-8", newline="\n") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        if path.exists():
            shutil.copymode(path, beside)
        beside.replace(path)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise


def write_json(path: Path, content: Any) -> None:
    """Replace `path` by `content` as JSON in one step."""
    write_text(path, json_text(content))


@contextmanager
def staging_folder(target: Path) -> Iterator[Path]:
    """Yield an empty folder beside `target`; whatever is left of it is removed at the end.

    It lies on the target's file system, so what is built in it can be renamed into place. A process
    that was killed leaves its own behind, hidden; the next one for the same target removes it.
    """
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except FileExistsError as error:  # a file: to say that it exists would not help
        reason = os.strerror(errno.ENOTDIR)
        raise NotADirectoryError(errno.ENOTDIR, reason, error.filename) from None
    prefix = f".{target.name}.partial-"
    for leftover in target.parent.glob(f"{glob.escape(prefix)}*"):
        with locked(leftover) as abandoned:
            if abandoned:
                shutil.rmtree(leftover, ignore_errors=True)
    while True:
        staging = target.with_name(f"{prefix}{os.urandom(8).hex()}")
        try:
            staging.mkdir()
            with locked(staging, wait=True):
                if staging.exists():
                    yield staging
                    return
                # Before it was locked, another process has taken it for abandoned.
        finally:
            shutil.rmtree(staging, ignore_errors=True)


def os_error_line(error: OSError, target: Path) -> str:
    """Say in one line what the system refused: to write `target`, or what has to do with another.

    Args:
        error: raised while `target` was built in a staging folder.
        target: what was to be written.
    """
    reason = " ".join(str(error).split())
    if error.errno is None and "requested and" in reason:  # all that NumPy's tofile says
        reason = f"only a part was, is the disk full? ({reason})"
    path = Path(os.fsdecode(error.filename)) if isinstance(error.filename, (str, bytes)) else None
    if path is None or any(".partial-" in part for part in path.parts) or path == target:
        return f"{target} cannot be written: {reason}"
    return f"{path} cannot be read or written: {error.strerror or reason}"


@contextmanager
def locked(folder: Path, *, wait: bool = False) -> Iterator[bool]:
    """Hold a folder's lock, which the system drops when its holder dies; yield whether it is held.

    Where a system has no such locks (Windows), it never is, and leftovers stay.

    Args:
        folder: what to lock.
        wait: for another holder to let go of it.
    """
    try:
        import fcntl

        handle = os.open(folder, os.O_RDONLY)
    except (ImportError, OSError):
        yield False
        return
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except OSError:
            yield False
        else:
            yield True
    finally:
        os.close(handle)


def exchange(one: Path, other: Path) -> bool:
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
