"""`pocketgpt.json`: what a model folder holds, where it came from and how good each variant is."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..errors import ModelFolderError, VariantNotFoundError
from . import atomic

MANIFEST = "pocketgpt.json"
FORMAT_VERSION = 1


@dataclass(frozen=True)
class FileRecord:
    """One file of a variant: its path relative to the folder, size in bytes and SHA-256."""

    path: str
    bytes: int
    sha256: str

    @classmethod
    def of(cls, folder: Path, path: str) -> FileRecord:
        """Measure a file that lies in `folder`."""
        return cls(path, (folder / path).stat().st_size, atomic.sha256(folder / path))


@dataclass(frozen=True)
class Variant:
    """One precision of the model.

    `bits` gives the stored bits per weight of every weight tensor; `quality` the figures measured
    on the text that `evaluation_sha256` names; `method` how the weights were rounded, and
    `calibration_sha256` the text that helped; `max_loss` the rise of perplexity that was allowed,
    and `loss_accepted` whether a greater one was, on request. `tolerance` is what a logit may
    differ by with what is computed together with it (in one pass, in chunks, token by token); a
    greedy token differs only where it covers the margin. fp32 promises the same tokens: None.
    """

    files: tuple[FileRecord, ...]
    bits: Mapping[str, int]
    quality: Mapping[str, float] = field(default_factory=dict)
    method: str | None = None
    evaluation_sha256: str | None = None
    calibration_sha256: str | None = None
    max_loss: float | None = None
    loss_accepted: bool = False
    tolerance: float | None = None

    @property
    def bytes(self) -> int:
        """Size on disk of all its files."""
        return sum(file.bytes for file in self.files)


@dataclass(frozen=True)
class Manifest:
    """The folder's table of contents.

    `source` names the checkpoint, `revision` its commit where it came from the hub, `base` what it
    was merged into where it is an adapter, `tokenizer` where that came from if from elsewhere;
    `opset` is the fp32 graph's;
    `parameters` counts its weights; `proof` holds the worst absolute differences between the fp32
    graph's logits and PyTorch's, by check, and how many texts the tokenizers treat differently;
    `evaluation_sha256` names the text that the latest `quality` figures were measured on.
    """

    producer: str
    source: str
    graph: str
    opset: int
    min_onnxruntime: str
    proof: Mapping[str, float]
    variants: Mapping[str, Variant]
    evaluation_sha256: str | None = None
    parameters: int | None = None
    revision: str | None = None
    base: str | None = None
    tokenizer: str | None = None
    format_version: int = FORMAT_VERSION

    def variant(self, name: str) -> Variant:
        """Return a variant by its name.

        Raises:
            VariantNotFoundError: it was never made, or its name is misspelled.
        """
        if name not in self.variants:
            raise VariantNotFoundError(
                f"no variant {name!r} in this folder, which has {', '.join(self.variants)}; "
                f"make it with 'pocketgpt quantize FOLDER {name}'"
            )
        return self.variants[name]

    def with_variant(self, name: str, variant: Variant) -> Manifest:
        """Return a copy in which `name` is `variant`."""
        return dataclasses.replace(self, variants={**self.variants, name: variant})


def variant_path(name: str) -> str:
    """Return where a variant's graph lies in the folder; the weights are at this path + `_data`."""
    stem = {"fp32": "model", "q8": "model_quantized"}.get(name, f"model_{name}")
    return f"onnx/{stem}.onnx"


def adapter_graph_path(name: str) -> str:
    """Return where the same variant's graph with places for LoRA adapters lies, if there is one."""
    return variant_path(name).removesuffix(".onnx") + "_lora.onnx"


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write the manifest into `folder`, replacing an older one in one step."""
    atomic.write_json(folder / MANIFEST, dataclasses.asdict(manifest))


def read_manifest(folder: Path) -> Manifest:
    """Read a folder's manifest.

    Raises:
        ModelFolderError: there is no folder, no manifest, or one that cannot be understood.
    """
    if not folder.is_dir():
        raise ModelFolderError(f"{folder} is not a folder; 'pocketgpt export' makes model folders")
    try:
        fields: Any = json.loads((folder / MANIFEST).read_text("utf-8"))
    except FileNotFoundError:
        raise ModelFolderError(
            f"{folder} has no {MANIFEST}, so it is not a model folder; "
            "a checkpoint becomes one by 'pocketgpt export CHECKPOINT FOLDER'"
        ) from None
    except (OSError, ValueError) as error:
        raise ModelFolderError(
            f"{folder / MANIFEST} cannot be read ({error}); export the model again"
        ) from None
    version = fields.get("format_version") if isinstance(fields, dict) else None
    if version != FORMAT_VERSION:
        raise ModelFolderError(
            f"{folder / MANIFEST} has format_version {version}, this PocketGPT reads "
            f"{FORMAT_VERSION}; export the model again"
        )
    try:
        return _parse(fields)
    except (KeyError, TypeError, AttributeError) as error:
        raise ModelFolderError(
            f"{folder / MANIFEST} is damaged ({type(error).__name__}: {error}); "
            "export the model again"
        ) from None


def _parse(fields: dict[str, Any]) -> Manifest:
    variants = {}
    for name, variant in fields["variants"].items():
        records = tuple(FileRecord(**record) for record in variant["files"])
        variants[name] = Variant(**{**variant, "files": records})
    return Manifest(**{**fields, "variants": variants})


def check_files(folder: Path, variant: Variant, *, verify: bool) -> None:
    """Check that a variant's files are there with the recorded sizes and, if `verify`, hashes.

    Raises:
        ModelFolderError: a file is missing or altered.
    """
    for record in variant.files:
        path = folder / record.path
        if not path.is_file():
            raise ModelFolderError(f"{path} is missing; copy it again or make the variant again")
        size = path.stat().st_size
        if size != record.bytes:
            raise ModelFolderError(
                f"{path} has {size} bytes, the manifest says {record.bytes}; "
                "copy it again or make the variant again"
            )
        if verify and atomic.sha256(path) != record.sha256:
            raise ModelFolderError(
                f"{path} was altered: its sha256 is not the manifest's; "
                "copy it again or make the variant again"
            )
