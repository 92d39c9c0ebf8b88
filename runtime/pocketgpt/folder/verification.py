"""Whether a model folder still is what was exported: every file against its hash."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from ..errors import ModelFolderError
from .card import CARD
from .file_record import check_files
from .files import ModelFiles, model_files
from .hub import every_variant, located
from .manifest import RUNTIME_FILES, TEXTS, read_manifest
from .opening import check_companions
from .signing import check_signature


@dataclass(frozen=True)
class Verification:
    """What `pocketgpt verify` found.

    `variants` gives every variant's bytes; `proof` the worst difference from PyTorch's logits by
    check, empty where nothing was proven, and `unproven` says why; `tolerance` is what a difference
    may be; `signature` where the signature lies that holds, None where none was checked; `failures`
    has a line for everything that does not hold.
    """

    variants: Mapping[str, int]
    proof: Mapping[str, float] = field(default_factory=dict)
    tolerance: float | None = None
    unproven: str | None = None
    signature: str | None = None
    failures: tuple[str, ...] = ()

    def with_failure(self, line: str) -> Verification:
        """Return a copy with one more failure."""
        return dataclasses.replace(self, failures=(*self.failures, line))


def verify_files(
    folder: str | os.PathLike[str] | ModelFiles,
    progress: Callable[[str, int, int], None] | None = None,
) -> Verification:
    """Check names, sizes and sha256 of every variant's files, and of the files beside them.

    Args:
        folder: a model folder, a package, or its name on the hub.
        progress: called with (what is done now, variants done, variants in all).

    Raises:
        ModelFolderError: the folder is missing, or its manifest is damaged.
    """
    if not isinstance(folder, ModelFiles):
        folder = located(folder, every_variant, everything=True)
    files = model_files(folder)
    manifest = read_manifest(files)
    variants = manifest.variants
    failures = []
    for done, variant in enumerate(variants.values()):
        if progress:
            progress("checking files", done, len(variants))
        failures += _failures(partial(check_files, files, variant.all_files, verify=True))
    others = [record.path for record in manifest.companions if record.path != CARD]  # to be edited
    for name in dict.fromkeys([*RUNTIME_FILES, *TEXTS, *others]):
        failures += _failures(partial(check_companions, files, manifest, [name]))
    if progress:
        progress("checking files", len(variants), len(variants))
    sizes = {name: variant.bytes for name, variant in variants.items()}
    return Verification(sizes, failures=tuple(failures))


def with_signature(
    found: Verification, folder: Path, trusted: Path, signature: Path | None = None
) -> Verification:
    """Return what was found, and whether its signature holds; arguments as `check_signature`'s.

    Raises:
        OptionError: `trusted` cannot be read.
        MissingExtraError: model-signing is not installed.
    """
    try:
        path = check_signature(folder, trusted, signature)
    except ModelFolderError as error:
        return found.with_failure(str(error))
    return dataclasses.replace(found, signature=str(path))


def _failures(check: Callable[[], None]) -> list[str]:
    """Return what a check complains of: nothing, or one line."""
    try:
        check()
    except ModelFolderError as error:
        return [str(error)]
    return []
