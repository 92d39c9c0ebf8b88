"""Whether a model folder still is what was exported: every variant's files against their hashes."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ..errors import ModelFolderError
from .manifest import check_files, read_manifest


@dataclass(frozen=True)
class Verification:
    """What `pocketgpt verify` found.

    `variants` gives every variant's bytes; `proof` the worst difference from PyTorch's logits by
    check, empty where nothing was proven, and `unproven` says why; `tolerance` is what a difference
    may be; `failures` has a line for everything that does not hold.
    """

    variants: Mapping[str, int]
    proof: Mapping[str, float] = field(default_factory=dict)
    tolerance: float | None = None
    unproven: str | None = None
    failures: tuple[str, ...] = ()

    def with_failure(self, line: str) -> Verification:
        """Return a copy with one more failure."""
        return dataclasses.replace(self, failures=(*self.failures, line))


def verify_files(
    folder: str | os.PathLike[str], progress: Callable[[str, int, int], None] | None = None
) -> Verification:
    """Check names, sizes and sha256 of every variant's files.

    Args:
        folder: a model folder.
        progress: called with (what is done now, variants done, variants in all).

    Raises:
        ModelFolderError: the folder is missing, or its manifest is damaged.
    """
    folder = Path(folder)
    variants = read_manifest(folder).variants
    found = Verification({name: variant.bytes for name, variant in variants.items()})
    for done, variant in enumerate(variants.values()):
        if progress:
            progress("checking files", done, len(variants))
        try:
            check_files(folder, variant, verify=True)
        except ModelFolderError as error:
            found = found.with_failure(str(error))
    if progress:
        progress("checking files", len(variants), len(variants))
    return found
