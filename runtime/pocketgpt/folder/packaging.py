"""`package`: a model folder with only what is needed, or all of that in one file."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ..errors import ModelFolderError, OptionError
from .files import model_files, stored
from .manifest import Manifest, read_manifest
from .pairing import PREFERRED_ANYWHERE, first_of

SUFFIX = ".pocketgpt"

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Package:
    """What `package` wrote.

    Attributes:
        path: the folder or the file.
        variants: those in it.
        bytes: the size of all its files, or of the one.
        sha256: of the one file; None for a folder.
        signature: where its signature lies; None where it was not signed.
    """

    path: str
    variants: tuple[str, ...]
    bytes: int
    sha256: str | None = None
    signature: str | None = None


def package(
    folder: str | os.PathLike[str],
    out: str | os.PathLike[str],
    variants: Sequence[str] | None = None,
    *,
    texts: bool = False,
    sign: str | os.PathLike[str] | None = None,
    certificates: Sequence[str | os.PathLike[str]] = (),
    password: str | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> Package:
    """Write what an app needs of a model: a smaller folder, or one file.

    With the variants come their graphs for adapters and for an 8-bit cache, the configuration, the
    tokenizer, what other runtimes read, the model card and licences. Every file is checked against
    its sha256 as it is copied. The target appears at the end, whole; until then, and if anything
    fails, it stays as it was.

    Args:
        folder: a model folder, or a package.
        out: where to write: one file where the name ends with `.pocketgpt`, else a folder. The same
            input makes the same file, byte for byte.
        variants: which ones; None for the first there is of int8, q8 and fp32, which run well on
            any CPU, or the only one.
        texts: whether to take evaluation.txt and calibration.txt too.
        sign: a private elliptic key, a file in PEM, to sign it by.
        certificates: the key's own certificate, and those that lead from it to the root, in PEM.
        password: the key's, where it has one.
        overwrite: replace a folder or a package that is there.
        progress: called with (what is done now, bytes done, bytes in all).

    Returns:
        What was written, and its sha256.

    Raises:
        ModelFolderError: the folder is missing or damaged, or `out` cannot be written.
        VariantNotFoundError: it has no such variant.
        OptionError: `out` is there already, or no variant is named and none is the usual one; or
            the key cannot be read.
        MissingExtraError: signing needs model-signing.

    Example:
        >>> made = pocketgpt.package("models/gpt2", "app/gpt2.pocketgpt", ["q4"])
    """
    from .atomic import os_error_line  # who only runs models goes without what these import
    from .install import check_target
    from .package.copying import Source, write_file, write_folder
    from .signing import Signer, signature_path

    target, files = Path(out), model_files(folder)
    manifest = read_manifest(files)
    chosen = _choose(manifest, variants)
    reduced = replace(manifest, variants={name: manifest.variant(name) for name in chosen})
    if target.exists() and target.samefile(files.root):
        raise OptionError(f"{target} is what is to be packaged; choose another name")
    signer = None if sign is None else Signer(sign, certificates, password)
    source = Source(files, reduced, progress)
    try:
        if target.suffix == SUFFIX:
            _check_file(target, overwrite)
            write_file(source, target, texts, signer)
        else:
            check_target(target, overwrite)
            write_folder(source, target, texts, signer)
        size, sha256 = _measure(target)
    except OSError as error:
        raise ModelFolderError(os_error_line(error, target)) from error
    signature = None if signer is None else str(signature_path(target))
    return Package(str(target), tuple(chosen), size, sha256, signature)


def _choose(manifest: Manifest, variants: Sequence[str] | None) -> list[str]:
    """Return the variants asked for, in the folder's order."""
    there = manifest.variants
    if variants is None:
        usual = first_of(PREFERRED_ANYWHERE, there)
        if usual is None and len(there) > 1:
            raise OptionError(
                f"name what to package, --variant (variants=[...]): there are {', '.join(there)}"
            )
        return [usual or next(iter(there))]
    if not variants:
        raise OptionError("name at least one variant to package")
    for name in variants:
        manifest.variant(name)
    return [name for name in there if name in variants]


def _check_file(target: Path, overwrite: bool) -> None:
    """Check that a package may be written there.

    Raises:
        OptionError: something is there, and no package, or not to be replaced.
    """
    if not target.exists():
        return
    from .package.reading import PackageFiles

    try:
        PackageFiles(target)
    except ModelFolderError:
        raise OptionError(f"{target} exists and is no package; choose another name") from None
    if not overwrite:
        raise OptionError(f"{target} is there already; --overwrite (overwrite=True) replaces it")


def _measure(target: Path) -> tuple[int, str | None]:
    """Return the size of what was written and, of one file, its sha256."""
    if target.is_file():
        return target.stat().st_size, stored(target).sha256()
    return sum(path.stat().st_size for path in target.rglob("*") if path.is_file()), None
