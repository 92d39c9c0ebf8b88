"""Writing a package: a ZIP file of stored files, the same bytes for the same files."""

from __future__ import annotations

import os
import struct
import zipfile
from collections.abc import Iterable
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

from .reading import ALIGNMENT, WEIGHTS

_DATE = (1980, 1, 1, 0, 0, 0)  # the first that the format can say
_MODE = 0o100644 << 16  # a file that its owner may write
_UNIX = 3
_LARGE = 2**30  # bytes, from which on sizes are written in 64 bits
_HEADER, _SIZES_64 = 30, 20  # bytes before a name; of the field that has sizes in 64 bits
# Android's field for it, which other tools pass over: what is aligned to, then zeros.
_PADDING_FIELD, _PADDING = 0xD935, struct.Struct("<3H")


class PackageWriter:
    """Writes one file; whoever calls it adds the files in the order of their names."""

    def __init__(self, path: Path) -> None:
        """Begin a file, which must not be there."""
        self._path = path
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        self._file = self._stack.enter_context(self._path.open("xb"))
        self._stack.callback(self._settle)
        archive = zipfile.ZipFile(self._file, "w", zipfile.ZIP_STORED)
        self._archive = self._stack.enter_context(archive)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stack.__exit__(kind, error, trace)

    def _settle(self) -> None:
        self._file.flush()
        os.fsync(self._file.fileno())

    def add(self, name: str, size: int, content: Iterable[bytes]) -> None:
        """Add a file of so many bytes."""
        entry = zipfile.ZipInfo(name, _DATE)
        entry.create_system, entry.external_attr, entry.file_size = _UNIX, _MODE, size
        large = size >= _LARGE
        if name.endswith(WEIGHTS):
            begin = self._file.tell() + _HEADER + len(name) + _PADDING.size + large * _SIZES_64
            zeros = -begin % ALIGNMENT
            head = _PADDING.pack(_PADDING_FIELD, 2 + zeros, ALIGNMENT)
            entry.extra = head + bytes(zeros)
        with self._archive.open(entry, "w", force_zip64=large) as file:
            for chunk in content:
                file.write(chunk)
        entry.extra = b""  # the directory at the end goes without
