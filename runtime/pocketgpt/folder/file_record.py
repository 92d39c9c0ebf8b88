"""A file by its name, size and hash: measured when it is written, checked when it is read."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..errors import ModelFolderError
from .fields import is_sha256, is_whole, require
from .files import ModelFiles, StoredFile, model_files, stored
from .paths import is_plain_path


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file's bytes, in hexadecimal."""
    return stored(path).sha256()


@dataclass(frozen=True)
class FileRecord:
    """One file of a folder: its path relative to that, size in bytes and SHA-256.

    Raises:
        ValueError: the path is not plain, or the size or the hash is none.
    """

    path: str
    bytes: int
    sha256: str

    def __post_init__(self) -> None:
        """Check the three."""
        require("a file's path", self.path, is_plain_path(self.path))
        require("a file's bytes", self.bytes, is_whole(self.bytes, 0))
        require("a file's sha256", self.sha256, is_sha256(self.sha256))

    @classmethod
    def of(cls, folder: Path, path: str) -> FileRecord:
        """Measure a file that lies in `folder`."""
        return cls(path, (folder / path).stat().st_size, sha256(folder / path))


def check_files(folder: Path | ModelFiles, records: Iterable[FileRecord], *, verify: bool) -> None:
    """Check that files are there with the recorded sizes and, if `verify`, hashes.

    Raises:
        ModelFolderError: a file is missing, altered, or a link that leaves the folder.
    """
    files = model_files(folder)
    for record in records:
        path = files.find(record.path)
        if not path.is_file():
            raise ModelFolderError(f"{path} is missing; copy it again or make the variant again")
        size = path.length()
        if size != record.bytes:
            raise ModelFolderError(
                f"{path} has {size} bytes, the manifest says {record.bytes}; "
                "copy it again or make the variant again"
            )
        if verify and path.sha256() != record.sha256:
            raise altered(path)


def altered(file: StoredFile) -> ModelFolderError:
    """Return the error of a file whose bytes are others than the manifest lists."""
    return ModelFolderError(
        f"{file} was altered: its sha256 is not the manifest's; "
        "copy it again or make the variant again"
    )


def hash_of(hashes: Sequence[str]) -> str:
    """Return one sha256 for several."""
    import hashlib  # as in `StoredFile.sha256`

    return hashlib.sha256("\n".join(hashes).encode("ascii")).hexdigest()
