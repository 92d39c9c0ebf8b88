"""Putting a finished folder in place of an old one, so that one of the two is always there."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..errors import OptionError
from .atomic import exchange, staging_folder
from .manifest import MANIFEST

INSIDE = "export"  # the name that staging folders inside a target are made for


def is_fixed(folder: Path) -> bool:
    """Tell whether a folder has to stay what it is: something is mounted there, or we stand in it.

    A shell that stands in a folder which was exchanged stands in the old one.
    """
    return folder.is_dir() and (os.path.ismount(folder) or folder.samefile(Path.cwd()))


def check_target(folder: Path, overwrite: bool) -> None:
    """Check that a model folder may be written there.

    Raises:
        OptionError: something else is there, or a model folder that is not to be replaced.
    """
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return
    if not folder.is_dir() or not ((folder / MANIFEST).is_file() or was_interrupted(folder)):
        raise OptionError(f"{folder} exists and is no model folder; choose another name")
    if not overwrite:
        raise OptionError(
            f"{folder} holds a model already; --overwrite (overwrite=True) replaces it and drops "
            "its variants"
        )


@contextmanager
def staging_for(folder: Path) -> Iterator[Path]:
    """Yield an empty folder that `install` can put in the place of `folder`: beside, or inside."""
    with staging_folder(folder / INSIDE if is_fixed(folder) else folder) as staging:
        yield staging


def was_interrupted(folder: Path) -> bool:
    """Tell whether a kill left a folder that has to stay without all its files."""
    return any(folder.glob(f".{INSIDE}.partial-*"))


def install(staging: Path, folder: Path) -> None:
    """Rename `staging` to `folder`; a folder that was there ends up where `staging` was.

    `staging` is what `staging_for` yields, or a folder in it.

    Where the system can swap two names at once, no kill finds the target missing. A folder that has
    to stay gets the files of `staging`, its manifest last.

    Raises:
        OSError: something could not be renamed; `folder` is as it was.
    """
    if not folder.exists():
        staging.rename(folder)
        return
    if is_fixed(folder):
        _fill(folder, staging)
        return
    staging.chmod(folder.stat().st_mode & 0o7777)
    if not exchange(staging, folder):
        replaced = staging.with_name(f"{staging.name}-replaced")
        folder.rename(replaced)
        try:
            staging.rename(folder)
        except OSError:
            replaced.rename(folder)
            raise
        replaced.rename(staging)


def _fill(folder: Path, staging: Path) -> None:
    """Move what `folder` holds into `staging`, which lies in it, and what that holds out of it."""
    new = [path for path in staging.iterdir() if path.name != MANIFEST]
    own = staging.relative_to(folder).parts[0]
    old = [path for path in folder.iterdir() if path.name != own]
    old.sort(key=lambda path: path.name != MANIFEST)  # without it first: no mixture is a model
    replaced = staging / "replaced"
    replaced.mkdir()
    moves = [(path, replaced / path.name) for path in old]
    moves += [(path, folder / path.name) for path in (*new, staging / MANIFEST)]
    done = []
    try:
        for source, target in moves:
            source.rename(target)
            done.append((source, target))
    except OSError:
        for source, target in reversed(done):
            target.rename(source)
        raise
