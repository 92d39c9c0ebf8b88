"""What a system takes on disk: its packages with all that they require, and a model's files."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from importlib import metadata
from pathlib import Path


def required(names: Sequence[str]) -> list[metadata.Distribution]:
    """Return these installed distributions and all that they require here, without extras."""
    found: dict[str, metadata.Distribution] = {}
    waiting = list(names)
    while waiting:
        name = waiting.pop()
        if canonical(name) in found:
            continue
        try:
            distribution = metadata.distribution(name)
        except metadata.PackageNotFoundError:
            continue  # of another platform or Python
        found[canonical(name)] = distribution
        for requirement in distribution.requires or ():
            spelled, _, marker = requirement.partition(";")
            if "extra" not in marker:
                waiting.append(re.split(r"[\s\[<>=!~(;]", spelled.strip(), maxsplit=1)[0])
    return list(found.values())


def canonical(name: str) -> str:
    """Return a distribution's name as indices write it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def installed_bytes(names: Sequence[str]) -> int:
    """Return the bytes of these distributions' files and of all that they require."""
    paths = {
        Path(str(file.locate()))
        for distribution in required(names)
        for file in distribution.files or ()
    }
    return sum(size_of(path) for path in paths if path.suffix != ".pyc")


def versions(names: Iterable[str]) -> dict[str, str]:
    """Return the versions of distributions that are there."""
    found = {}
    for name in names:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def size_of(path: Path) -> int:
    """Return the bytes of a file, or of all files in a folder; 0 where nothing is."""
    if path.is_dir():
        return sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
    return path.stat().st_size if path.exists() else 0
