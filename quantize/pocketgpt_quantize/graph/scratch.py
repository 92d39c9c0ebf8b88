"""Files for what is too large to be kept in memory."""

from __future__ import annotations

from pathlib import Path


class Scratch:
    """A folder of numbered files, one for each name.

    Names come from graphs, which may hold any: they never become parts of a path.
    """

    def __init__(self, folder: Path) -> None:
        """Use `folder`, which is there; whoever made it removes it."""
        self.folder = folder
        self._numbers: dict[str, int] = {}

    def path(self, name: str) -> Path:
        """Return the file for a name, the same at every call."""
        return self.folder / f"{self._numbers.setdefault(name, len(self._numbers))}.bytes"
