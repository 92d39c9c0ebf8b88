"""`quantize`: make variants of a model folder, measure what each one lost, then install them."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pocketgpt
from pocketgpt import Model, QuantizationError
from pocketgpt.config import read_json
from pocketgpt.files import sha256, staging_folder, write_json
from pocketgpt.manifest import (
    FileRecord,
    Manifest,
    Variant,
    check_files,
    read_manifest,
    variant_path,
    write_manifest,
)

from .quality import REFERENCE, measure
from .rewrite import write_quantized
from .schemes import scheme_of

Progress = Callable[[str, int, int], None]


def quantize(
    folder: str | os.PathLike[str],
    variants: Sequence[str],
    *,
    eval_text: str | os.PathLike[str] | None = None,
    progress: Progress | None = None,
) -> Manifest:
    """Make variants from a folder's fp32 one and write what each lost into the manifest.

    Nothing in the folder changes until every variant is made and measured.

    Args:
        folder: a model folder.
        variants: `int8`, `q4`.
        eval_text: a text to measure on; None for the folder's evaluation.txt.
        progress: called with (what is done now, units done, units in all).

    Returns:
        The folder's new manifest.

    Raises:
        QuantizationError: a variant is unknown, or there is no text to measure on.
        ModelFolderError: the folder or its fp32 variant is missing or damaged.

    Example:
        >>> quantize("models/gpt2", ["int8", "q4"]).variants["int8"].quality["loss"]
    """
    folder = Path(folder)
    variants = list(dict.fromkeys(variants))
    for name in variants:
        scheme_of(name)
    manifest = read_manifest(folder)
    check_files(folder, manifest.variant(REFERENCE), verify=False)
    text_path = Path(eval_text) if eval_text is not None else folder / "evaluation.txt"
    text = _read_text(text_path)
    with staging_folder(folder / "variants") as staging:
        shutil.copytree(folder, staging, ignore=_no_weights, dirs_exist_ok=True)
        for name in variants:
            variant = _make(folder, staging, name, progress)
            bits = {**manifest.variant(REFERENCE).bits, **variant.bits}
            manifest = manifest.with_variant(name, replace(variant, bits=bits))
        write_manifest(staging, manifest)
        models = {REFERENCE: pocketgpt.load(folder, REFERENCE)}
        models |= {name: pocketgpt.load(staging, name) for name in variants}
        manifest = _with_quality(manifest, models, text, progress)
        if sha256(text_path) != manifest.evaluation_sha256:  # older figures are of another text
            for name in manifest.variants.keys() - models.keys():
                manifest = manifest.with_variant(name, replace(manifest.variant(name), quality={}))
        manifest = replace(manifest, evaluation_sha256=sha256(text_path))
        _install(staging, folder, variants, manifest)
    return manifest


def _no_weights(folder: str, names: list[str]) -> set[str]:
    return {name for name in names if name == "onnx" or name.startswith(".")}


def _read_text(path: Path) -> str:
    try:
        return path.read_text("utf-8")
    except FileNotFoundError:
        raise QuantizationError(
            f"{path} is missing, and quality is always measured: give a text with --eval-text FILE "
            "(eval_text=...)"
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise QuantizationError(f"{path} cannot be read as UTF-8 text: {error}") from None


def _make(folder: Path, staging: Path, name: str, progress: Progress | None) -> Variant:
    def report(done: int, total: int) -> None:
        if progress:
            progress(f"quantizing to {name}", done, total)

    scheme = scheme_of(name)
    path = variant_path(name)
    (staging / path).parent.mkdir(exist_ok=True)
    bits = write_quantized(folder / variant_path(REFERENCE), staging / path, scheme, report)
    records = tuple(FileRecord.of(staging, file) for file in (path, f"{path}_data"))
    return Variant(records, bits, scheme.block_size)


def _with_quality(
    manifest: Manifest, models: dict[str, Model], text: str, progress: Progress | None
) -> Manifest:
    def report(done: int, total: int) -> None:
        if progress:
            progress("measuring quality", done, total)

    for name, figures in measure(models, text, report).items():
        manifest = manifest.with_variant(name, replace(manifest.variant(name), quality=figures))
    return manifest


def _install(staging: Path, folder: Path, names: list[str], manifest: Manifest) -> None:
    """Rename the files into place, then the texts that list them, so that none is listed early."""
    for name in names:
        for record in manifest.variant(name).files:
            (staging / record.path).replace(folder / record.path)
    config = read_json(folder / "config.json")
    external = {Path(variant_path(name)).name: True for name in manifest.variants}
    config["transformers.js_config"] = {"use_external_data_format": external}
    write_json(folder / "config.json", config)
    write_manifest(folder, manifest)
