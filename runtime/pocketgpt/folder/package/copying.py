"""Copying what a package takes, checked on the way, into a folder or one file."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

from ..atomic import staging_folder
from ..card import CARD
from ..config import read_config, read_generation_defaults
from ..file_record import FileRecord, altered, check_files
from ..files import ModelFiles, StoredFile, stored
from ..install import install, staging_for
from ..json_file import read_json_object
from ..manifest import (
    REQUIRED_FILES,
    RUNTIME_FILES,
    TEXTS,
    Manifest,
    recorded_states,
    write_manifest,
)
from ..neighbours import NEIGHBOURS, write_neighbours
from ..opening import check_companions
from ..signing import Signer, signature_path
from .writing import PackageWriter

LICENCES = ("LICENSE", "LICENSE.md", "LICENSE.txt", "NOTICE", "NOTICE.md", "NOTICE.txt")

Progress = Callable[[str, int, int], None]


class Source:
    """What is packaged: where its files lie, and what of it is wanted."""

    def __init__(self, files: ModelFiles, manifest: Manifest, progress: Progress | None) -> None:
        """Take of these files what a manifest of fewer variants lists."""
        self.files = files
        self.manifest = manifest
        variants = manifest.variants.values()
        self.records = [record for variant in variants for record in variant.all_files]
        self._progress = progress
        self._done, self._all = 0, sum(record.bytes for record in self.records)

    def write_companions(self, home: Path, texts: bool) -> None:
        """Write all but graphs and weights into a folder, the manifest last.

        Raises:
            ModelFolderError: a file is missing, altered or damaged.
        """
        states = recorded_states(self.files)
        for name in REQUIRED_FILES:  # what follows would name copies of them in its errors
            read_json_object(self.files.find(name))
        read_config(self.files), read_generation_defaults(self.files)
        known = {record.path: record for record in self.manifest.companions}
        check_companions(self.files, self.manifest, RUNTIME_FILES)
        kept = [*RUNTIME_FILES, *LICENCES, *(TEXTS if texts else ())]
        for name in (*kept, *NEIGHBOURS):
            file = self.files.find(name)
            if file.is_file():
                record = None if name == CARD else known.get(name)  # people edit the card
                _write(home / name, _checked(file, record))
        own = tuple(FileRecord.of(home, name) for name in kept if (home / name).is_file())
        manifest = replace(self.manifest, companions=own)
        write_manifest(home, write_neighbours(home, manifest, states))

    def checked(self, record: FileRecord) -> Iterator[bytes]:
        """Yield a graph or weights, piece by piece, and say how far it is.

        Raises:
            ModelFolderError: it is missing or altered.
        """
        check_files(self.files, [record], verify=False)
        for chunk in _checked(self.files.find(record.path), record):
            yield chunk
            self._done += len(chunk)
            if self._progress:
                self._progress("packaging", self._done, self._all)


def _checked(file: StoredFile, record: FileRecord | None) -> Iterator[bytes]:
    """Yield a file, piece by piece; what was altered ends in an error.

    Raises:
        ModelFolderError: its bytes are not those that the manifest lists.
    """
    made = hashlib.sha256()
    for chunk in file.chunks():
        made.update(chunk)
        yield chunk
    if record is not None and made.hexdigest() != record.sha256:
        raise altered(file)


def _write(path: Path, content: Iterator[bytes]) -> None:
    with path.open("xb") as file:
        for chunk in content:
            file.write(chunk)


def write_folder(source: Source, target: Path, texts: bool, signer: Signer | None) -> None:
    """Write a smaller folder, in the place of one that is there.

    Raises:
        ModelFolderError: a file is missing, altered or damaged.
        OSError: it cannot be written.
    """
    target = target.resolve() if target.is_symlink() else target  # the link stays
    with staging_for(target) as staging:
        home = staging / (target.name or "model")  # a signature names it
        (home / "onnx").mkdir(parents=True)
        source.write_companions(home, texts)
        for record in source.records:
            _write(home / record.path, source.checked(record))
        if signer is not None:
            signer.sign(home)
        install(home, target)


def write_file(source: Source, target: Path, texts: bool, signer: Signer | None) -> None:
    """Write the same in one file, in the place of one that is there; errors as `write_folder`'s."""
    target = target.resolve() if target.is_symlink() else target
    with staging_folder(target) as staging:
        home, made = staging / "model", staging / target.name
        home.mkdir()
        source.write_companions(home, texts)
        parts = {record.path: record for record in source.records}
        small = [path.name for path in home.iterdir()]
        with PackageWriter(made) as writer:
            for name in sorted([*small, *parts]):
                if name in parts:
                    writer.add(name, parts[name].bytes, source.checked(parts[name]))
                else:
                    file = stored(home / name)
                    writer.add(name, file.length(), file.chunks())
        if signer is not None:
            signer.sign(made)
        old = signature_path(target)
        old.unlink(missing_ok=True)  # of what was there before
        made.replace(target)
        if signer is not None:
            signature_path(made).replace(old)
