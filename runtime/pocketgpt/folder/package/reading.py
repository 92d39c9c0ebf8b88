"""A model in one file, a package: an archive that is read where it lies.

A ZIP file (APPNOTE.TXT, https://pkware.cachefly.net/webdocs/casestudies/APPNOTE.TXT) whose files
are stored as they are, so that any tool unpacks it, and programs map the weights, which begin at
multiples of 4096 bytes. Read strictly: entry after entry, directory, end, nothing between them or
behind. Python's zipfile reads much more than that, and takes as long to import as a small model to
open; it writes packages, and tests compare with it.
"""

from __future__ import annotations

import stat
import struct
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from struct import Struct
from typing import BinaryIO

from ...errors import ModelFolderError
from ..files import ModelFiles, State, StoredFile, state_of
from ..paths import is_plain_path

ALIGNMENT = 4096  # bytes: a page of memory, or a part of one
WEIGHTS = ".onnx_data"  # how the names of those files end that are aligned
_LARGEST_DIRECTORY = 2**20  # bytes

# Records of the format, by the names that APPNOTE.TXT has for them; 64: of files beyond 4 GB.
_LOCAL = Struct("<4s5H3L2H")
_CENTRAL = Struct("<4s6H3L5H2L")
_END = Struct("<4s4H2LH")
_END_64 = Struct("<4sQ2H2L4Q")
_LOCATOR_64 = Struct("<4sLQL")
_LOCAL_MARK, _CENTRAL_MARK, _END_MARK = b"PK\3\4", b"PK\1\2", b"PK\5\6"
_END_64_MARK, _LOCATOR_64_MARK = b"PK\6\6", b"PK\6\7"
_FIELD = Struct("<2H")
_SIZES_64 = 1  # the extra field that has sizes beyond 4 GB
_MOST_32 = 2**32 - 1  # "look in the other field"
_UTF_8 = 0x800  # the one flag that may be set: names are UTF-8, which plain ones are anyway


@dataclass(frozen=True)
class _Entry:
    """What the directory says of a file."""

    name: str
    crc32: int
    size: int
    header: int  # where it begins


class PackageFiles(ModelFiles):
    """A model in one file."""

    def __init__(self, path: Path) -> None:
        """Read which files lie where.

        Raises:
            ModelFolderError: it is no package, or a damaged one.
        """
        self.root = path
        self._state = state_of(path)
        try:
            with path.open("rb") as file:
                places = _read_places(file)
        except (OSError, ValueError, struct.error) as reason:
            raise ModelFolderError(
                f"{path} is no package, or damaged: {reason}; copy it again, or make one by "
                "'pocketgpt package FOLDER FILE.pocketgpt'"
            ) from None
        at = path.resolve()  # where ONNX Runtime finds weights, which follows no links out
        self._parts = {
            entry.name: StoredFile(path / entry.name, at, begin, entry.size, entry.crc32)
            for entry, begin in places
        }

    @property
    def names(self) -> list[str]:
        """The files' names."""
        return list(self._parts)

    def find(self, name: str) -> StoredFile:
        beneath = self.root / name  # where nothing is
        return self._parts.get(name) or StoredFile(beneath, beneath)

    def state(self, names: Iterable[str]) -> State:
        now = state_of(self.root)
        if now != self._state:
            raise ModelFolderError(f"{self.root} was changed while it was read; load it again")
        return (now,)


def _read_places(file: BinaryIO) -> list[tuple[_Entry, int]]:
    """Return a package's files, each with where its bytes begin.

    Raises:
        ValueError, struct.error: it is none, or holds what a package does not.
    """
    entries, directory = _read_directory(file)
    if len({entry.name.lower() for entry in entries}) < len(entries):
        raise ValueError("two of its files have one name")
    at, places = 0, []
    for entry in sorted(entries, key=lambda entry: entry.header):
        if entry.header != at:
            raise ValueError(f"{entry.name} does not begin where the file before it ends")
        begin = _read_local(file, entry)
        if entry.name.endswith(WEIGHTS) and begin % ALIGNMENT:
            raise ValueError(f"{entry.name} does not begin at a multiple of {ALIGNMENT} bytes")
        places.append((entry, begin))
        at = begin + entry.size
    if at != directory:
        raise ValueError("its files do not end where its directory begins")
    return places


def _read_directory(file: BinaryIO) -> tuple[list[_Entry], int]:
    """Return the directory's entries, and where it begins."""
    count, size, begin = _read_end(file)
    if size > _LARGEST_DIRECTORY:
        raise ValueError(f"its directory has {size:,} bytes, more than a model's files take")
    file.seek(begin)
    content = file.read(size)
    entries, at = [], 0
    while at < size:
        entry, at = _entry_of(content, at)
        entries.append(entry)
    if len(entries) != count or at != size:
        raise ValueError(f"its directory is not of {count} files")
    return entries, begin


def _read_end(file: BinaryIO) -> tuple[int, int, int]:
    """Return how many entries the directory has, its size, and where it begins."""
    end = file.seek(0, 2) - _END.size
    if end < 0:
        raise ValueError("it is too small")
    file.seek(end)
    mark, disk, its_disk, here, count, size, begin, comment = _END.unpack(file.read(_END.size))
    if mark != _END_MARK or comment:
        raise ValueError("it does not end as a ZIP file without a comment")
    place = end - _LOCATOR_64.size
    file.seek(max(place, 0))
    locator = file.read(_LOCATOR_64.size)
    if locator.startswith(_LOCATOR_64_MARK):
        end = place - _END_64.size
        file.seek(max(end, 0))
        record = _END_64.unpack(file.read(_END_64.size))
        mark, length, _, _, disk, its_disk, here, count, size, begin = record
        says = _LOCATOR_64.unpack(locator)
        if (mark, length, *says[1:]) != (_END_64_MARK, _END_64.size - 12, 0, end, 1):
            raise ValueError("it does not end as a ZIP file beyond 4 GB")
    if disk or its_disk or here != count or begin + size != end:
        raise ValueError("its directory does not lie at its end")
    return count, size, begin


def _entry_of(content: bytes, at: int) -> tuple[_Entry, int]:
    """Return the entry of a directory that begins at `at`, and where it ends."""
    record = _CENTRAL.unpack_from(content, at)
    mark, _, _, flags, method, _, _, crc32, packed, size = record[:10]
    name_size, extra_size, comment_size, disk, _, attributes, header = record[10:]
    begin = at + _CENTRAL.size
    end = begin + name_size + extra_size + comment_size
    if mark != _CENTRAL_MARK or end > len(content) or disk:
        raise ValueError("its directory cannot be read")
    name = _name_of(content[begin : begin + name_size])
    _check_kind(name, flags, method, attributes >> 16)
    large = [value for value in (size, packed, header) if value == _MOST_32]
    extra = content[begin + name_size : begin + name_size + extra_size]
    wide = iter(_wide_numbers(extra, len(large)))
    size, packed, header = (next(wide) if n == _MOST_32 else n for n in (size, packed, header))
    if size != packed:
        raise ValueError(f"{name} is compressed")
    return _Entry(name, crc32, size, header), end


def _read_local(file: BinaryIO, entry: _Entry) -> int:
    """Check that what stands before a file is what the directory says; return where it begins."""
    file.seek(entry.header)
    record = _LOCAL.unpack(file.read(_LOCAL.size))
    mark, _, flags, method, _, _, crc32, packed, size, name_size, extra_size = record
    name, extra = file.read(name_size), file.read(extra_size)
    _check_kind(entry.name, flags, method, 0)
    if _MOST_32 in (size, packed):
        size, packed = _wide_numbers(extra, 2)
    said = (mark, name.decode("ascii", "replace"), crc32, size, packed)
    if said != (_LOCAL_MARK, entry.name, entry.crc32, entry.size, entry.size):
        raise ValueError(f"{entry.name} is another file than its directory says")
    return file.tell()


def _name_of(content: bytes) -> str:
    name = content.decode("ascii", "replace")
    if not is_plain_path(name):
        raise ValueError(f"{name!a:.60} is no name for a file of a model")
    return name


def _check_kind(name: str, flags: int, method: int, mode: int) -> None:
    """Check that an entry is a file, stored as it is."""
    if flags & 1:
        raise ValueError(f"{name} is encrypted")
    if method or flags not in (0, _UTF_8):
        raise ValueError(f"{name} is compressed, or written otherwise than packages are")
    if stat.S_IFMT(mode) not in (0, stat.S_IFREG):
        raise ValueError(f"{name} is a link, or no file")


def _wide_numbers(extra: bytes, count: int) -> tuple[int, ...]:
    """Return so many numbers of 64 bits from an entry's extra fields."""
    at = 0
    while count and at < len(extra):
        kind, size = _FIELD.unpack_from(extra, at)
        at += _FIELD.size
        if at + size > len(extra):
            raise ValueError("an extra field ends beyond its entry")
        if kind == _SIZES_64:
            return Struct(f"<{count}Q").unpack(extra[at : at + size][: 8 * count])
        at += size
    if count:
        raise ValueError("sizes beyond 4 GB are missing")
    return ()
