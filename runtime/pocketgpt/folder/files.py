"""Where a model's files lie: in a folder, or in one file, a package. All reading goes through here.

What is read gets a `StoredFile`, a file on disk or a part of one, and need not know which.
"""

from __future__ import annotations

import binascii
import os
import stat
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from ..errors import ModelFolderError, OptionError
from .paths import check_inside

_CHUNK = 2**20  # bytes that are read at once

State = tuple[tuple[int, int, int], ...]


@dataclass(frozen=True)
class StoredFile:
    """A file of a model: all of a file on disk, or `size` bytes of it from `begin` on.

    `label` is what messages call it. `crc32` is what a package says that its bytes make.
    """

    label: Path
    path: Path
    begin: int = 0
    size: int | None = None
    crc32: int | None = None

    def __str__(self) -> str:
        """Return what messages call it."""
        return str(self.label)

    @property
    def is_part(self) -> bool:
        """Whether it is a part of a file."""
        return self.size is not None

    def exists(self) -> bool:
        """Whether anything is there by its name."""
        return self.is_part or self.path.exists()

    def is_file(self) -> bool:
        """Whether a file is there by its name."""
        return self.is_part or self.path.is_file()

    def length(self) -> int:
        """Return its size."""
        return self.path.stat().st_size if self.size is None else self.size

    def read(self, largest: int) -> bytes:
        """Read all of it.

        Raises:
            OSError: it cannot be read, or is no file: a pipe would be waited for.
            ValueError: it has more than `largest` bytes, or is damaged.
        """
        if not stat.S_ISREG(self.path.stat().st_mode):
            raise OSError("it is no file")
        most = largest + 1
        with self.path.open("rb") as file:
            file.seek(self.begin)
            content = file.read(most if self.size is None else min(most, self.size))
        if len(content) > largest:
            raise ValueError(f"it has more than {largest:,} bytes")
        if self.crc32 not in (None, binascii.crc32(content)):
            raise ValueError("it is damaged, by its CRC-32; copy the package again")
        return content

    def chunks(self) -> Iterator[bytes]:
        """Yield all of it, piece by piece.

        Raises:
            OSError: it cannot be read.
        """
        with self.path.open("rb") as file:
            file.seek(self.begin)
            left = self.length()
            while left and (chunk := file.read(min(left, _CHUNK))):
                yield chunk
                left -= len(chunk)

    def sha256(self) -> str:
        """Return the SHA-256 of its bytes, in hexadecimal."""
        import hashlib  # brings OpenSSL, 4 MB, which generating takes nothing of

        made = hashlib.sha256()
        for chunk in self.chunks():
            made.update(chunk)
        return made.hexdigest()


def stored(file: Path | StoredFile) -> StoredFile:
    """Return a file on disk as what is read from here."""
    return file if isinstance(file, StoredFile) else StoredFile(file, file)


class ModelFiles(ABC):
    """The files of one model, by the names they have in a model folder.

    Attributes:
        root: the folder or the file that they lie in.
    """

    root: Path

    def __str__(self) -> str:
        """Return what messages call it."""
        return str(self.root)

    @abstractmethod
    def find(self, name: str) -> StoredFile:
        """Return a file by its name, `onnx/model.onnx`, whether it is there or not.

        Raises:
            ModelFolderError: it is a link that leads out.
        """

    @abstractmethod
    def state(self, names: Iterable[str]) -> State:
        """Return what tells these files from others put in their places.

        Raises:
            ModelFolderError: they are others already.
        """


class FolderFiles(ModelFiles):
    """A model folder."""

    def __init__(self, root: Path) -> None:
        """Read from a folder."""
        self.root = root

    def find(self, name: str) -> StoredFile:
        return stored(check_inside(self.root, name))

    def state(self, names: Iterable[str]) -> State:
        return tuple(state_of(self.root / name) for name in names)


def state_of(path: Path) -> tuple[int, int, int]:
    """Return what tells a file from another in its place; zeros where it is missing."""
    try:
        status = path.stat()
    except OSError:
        return (0, 0, 0)
    return (status.st_ino, status.st_size, status.st_mtime_ns)


def model_files(named: str | os.PathLike[str] | ModelFiles) -> ModelFiles:
    """Return where the files lie of the model that a user named: what a name means is decided here.

    Args:
        named: a model folder, a package, or what this function returned for one.

    Raises:
        ModelFolderError: there is neither, or the package is damaged.
    """
    if isinstance(named, ModelFiles):
        return named
    path = Path(named)
    if path.is_dir():
        return FolderFiles(path)
    if path.is_file():
        from .package.reading import PackageFiles  # who opens a folder goes without

        return PackageFiles(path)
    raise ModelFolderError(f"{path} is not a folder; 'pocketgpt export' makes model folders")


def check_is_folder(folder: Path) -> None:
    """Check that what a user named can be added to.

    Raises:
        OptionError: it is a package.
    """
    if folder.is_file():
        raise OptionError(
            f"{folder} is one file, which nothing can be added to: 'pocketgpt package {folder} "
            "FOLDER' makes a folder of it"
        )
