"""Putting a finished folder in place of an old one, so that one of the two is always there."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pocketgpt import ModelFolderError
from pocketgpt.folder.atomic import exchange, staging_folder
from pocketgpt.folder.card import CARD
from pocketgpt.folder.manifest import MANIFEST, recorded_states
from pocketgpt.folder.neighbours import neighbours_of

INSIDE = "export"  # the name that staging folders inside a target are made for


def is_fixed(folder: Path) -> bool:
    """Tell whether a folder has to stay what it is: something is mounted there, or we stand in it.

    A shell that stands in a folder which was exchanged stands in the old one.
    """
    return folder.is_dir() and (os.path.ismount(folder) or folder.samefile(Path.cwd()))


@contextmanager
def staging_for(folder: Path) -> Iterator[Path]:
    """Yield an empty folder that `install` can put in the place of `folder`: beside, or inside."""
    with staging_folder(folder / INSIDE if is_fixed(folder) else folder) as staging:
        yield staging


def was_interrupted(folder: Path) -> bool:
    """Tell whether a killed export left a folder that has to stay without all its files."""
    return any(folder.glob(f".{INSIDE}.partial-*"))


def keep_card(folder: Path, staging: Path) -> None:
    """Copy a README.md that somebody wrote for the folder which `staging` is to replace."""
    card = folder / CARD
    if not card.is_file():
        return
    try:
        states = recorded_states(folder)
        theirs = CARD not in neighbours_of(folder, states[0], states)
    except ModelFolderError:  # nothing says that it is ours
        theirs = True
    if theirs:
        shutil.copyfile(card, staging / CARD)


def install(staging: Path, folder: Path) -> None:
    """Rename `staging` to `folder`; a folder that was there ends up where `staging` was.

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
    old = [path for path in folder.iterdir() if path.name != staging.name]
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
