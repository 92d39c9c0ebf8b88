"""`pocketgpt.json`: what a model folder holds, where it came from and how good each variant is.

Variants that replace others are installed in steps, of which only one counts. The manifest first
gets, beside what it says, what it will say (`Manifest.installing`); then the folder `onnx` is
exchanged with one that holds the new files, in one step; then the manifest says the new alone.
Whoever reads in between, or after a kill, tells by the graphs' hashes which of the two holds.
"""

from __future__ import annotations

import dataclasses
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeVar

from ..errors import ModelFolderError, VariantNotFoundError
from .fields import is_line, is_number, is_numbers, is_sha256, is_whole, require
from .file_record import FileRecord, check_files
from .files import ModelFiles, model_files
from .fingerprint import Fingerprint
from .json_file import read_json_object
from .paths import is_plain_name

MANIFEST = "pocketgpt.json"
FORMAT_VERSION = 1
GraphKind = Literal["fused", "portable"]
GRAPHS: tuple[GraphKind, ...] = ("fused", "portable")
# What the runtime reads beside the graph, and the texts; a manifest has their hashes.
RUNTIME_FILES = (
    "config.json",
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "chat_template.jinja",
)
REQUIRED_FILES = ("config.json", "tokenizer.json")
TEXTS = ("evaluation.txt", "calibration.txt")
_LARGEST = 16 * 2**20  # bytes of a manifest; a variant takes some 20,000 for a model of 48 layers
_VERSION = re.compile(r"\d{1,5}(\.\d{1,5}){0,3}")

_Record = TypeVar("_Record")


@dataclass(frozen=True)
class Int8Cache:
    """A variant with keys and values in 8 bits: its graph over the variant's weights, what it lost.

    `quality` and `tolerance` are as the variant's.

    Raises:
        ValueError: a field is of a wrong type or out of range.
    """

    graph: FileRecord
    quality: Mapping[str, float] = field(default_factory=dict)
    tolerance: float | None = None

    def __post_init__(self) -> None:
        """Check the fields."""
        require("quality", self.quality, is_numbers(self.quality))
        value = self.tolerance
        require("tolerance", value, value is None or (is_number(value) and value >= 0))


@dataclass(frozen=True)
class Variant:
    """One precision of the model.

    `files` are its graph and its weights; `adapter_graph`, if there is one, the same graph with
    places for LoRA adapters, over those weights; `bits` gives the stored bits of every weight
    tensor; `quality` the figures measured on the text that `evaluation_sha256` names; `method` how
    the weights were rounded, and `calibration_sha256` the text that helped; `max_loss` the rise of
    perplexity that was allowed, and `loss_accepted` whether a greater one was, on request.
    `tolerance` is what a logit may differ by with what is computed together with it (in one pass,
    in chunks, token by token); a greedy token differs only where it covers the margin. fp32
    promises the same tokens: None. `basis` names what keys and values were folded by: those of
    variants of one basis mean the same. `block_size` is how many weights of a layer share a scale,
    where they lie in blocks. `int8_cache`, if there is one, is the same variant with an 8-bit
    cache. `fingerprint` is what it says to a few prompts, by which devices are tested; folders of
    older versions have none.

    Raises:
        ValueError: a field is of a wrong type or out of range.
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
    adapter_graph: FileRecord | None = None
    int8_cache: Int8Cache | None = None
    basis: str | None = None
    block_size: int | None = None
    fingerprint: Fingerprint | None = None

    def __post_init__(self) -> None:
        """Check the fields."""
        require("files", self.files, len(self.files) == 2)
        bits_hold = is_numbers(self.bits) and all(is_whole(b, 1, 64) for b in self.bits.values())
        require("bits", self.bits, bits_hold)
        require("quality", self.quality, is_numbers(self.quality))
        require("method", self.method, self.method is None or is_line(self.method))
        for name in ("evaluation_sha256", "calibration_sha256", "basis"):
            require(name, value := getattr(self, name), value is None or is_sha256(value))
        for name in ("max_loss", "tolerance"):
            value = getattr(self, name)
            require(name, value, value is None or (is_number(value) and value >= 0))
        size = self.block_size
        require("block_size", size, size is None or is_whole(size, 1))
        require("loss_accepted", self.loss_accepted, isinstance(self.loss_accepted, bool))

    @property
    def bytes(self) -> int:
        """Size on disk of all its files."""
        return sum(file.bytes for file in self.all_files)

    @property
    def all_files(self) -> tuple[FileRecord, ...]:
        """Its graph, its weights, and the other graphs over these that there are."""
        cache = self.int8_cache and self.int8_cache.graph
        return (*self.files, *(graph for graph in (self.adapter_graph, cache) if graph))


@dataclass(frozen=True)
class Manifest:
    """The folder's table of contents.

    `source` names the checkpoint, `revision` its commit where it came from the hub, `base` what it
    was merged into where it is an adapter, `tokenizer` where that came from if from elsewhere;
    `opset` is the fp32 graph's; `min_onnxruntime` the oldest ONNX Runtime that runs it;
    `parameters` counts its weights; `proof` holds the worst absolute differences between the fp32
    graph's logits and PyTorch's, by check, and how many texts the tokenizers treat differently;
    `evaluation_sha256` names the text that the latest `quality` figures were measured on;
    `companions` are the files beside the graphs: configuration, tokenizer, texts; `remarks` are
    lines about what the checkpoint holds and the folder does not, or comes from elsewhere;
    `license` and `languages` are what the checkpoint's own model card says, by the hub's words.

    `installing` is what it will be once the variants that are being installed are in place; read
    by `read_manifest`, there is none.

    Raises:
        ValueError: a field is of a wrong type or out of range.
    """

    producer: str
    source: str
    graph: GraphKind
    opset: int
    min_onnxruntime: str
    proof: Mapping[str, float]
    variants: Mapping[str, Variant]
    evaluation_sha256: str | None = None
    parameters: int | None = None
    revision: str | None = None
    base: str | None = None
    tokenizer: str | None = None
    companions: tuple[FileRecord, ...] = ()
    remarks: tuple[str, ...] = ()
    license: str | None = None
    languages: tuple[str, ...] = ()
    installing: Manifest | None = None
    format_version: int = FORMAT_VERSION

    def __post_init__(self) -> None:
        """Check the fields."""
        for name in ("producer", "source"):
            require(name, value := getattr(self, name), is_line(value))
        for name in ("revision", "base", "tokenizer", "license"):
            require(name, value := getattr(self, name), value is None or is_line(value))
        require("graph", self.graph, self.graph in GRAPHS)
        require("opset", self.opset, is_whole(self.opset, 1, 10_000))
        oldest = self.min_onnxruntime
        holds = isinstance(oldest, str) and _VERSION.fullmatch(oldest) is not None
        require("min_onnxruntime", oldest, holds)
        require("proof", self.proof, is_numbers(self.proof))
        text = self.evaluation_sha256
        require("evaluation_sha256", text, text is None or is_sha256(text))
        count = self.parameters
        require("parameters", count, count is None or is_whole(count, 0))
        for name in ("remarks", "languages"):
            require(name, value := getattr(self, name), all(map(is_line, value)))
        require("variants", self.variants, bool(self.variants))
        for name, variant in self.variants.items():
            require("a variant's name", name, is_plain_name(name))
            paths = [record.path for record in variant.files]
            require(f"{name}'s files", paths, paths == variant_files(name))
            if variant.adapter_graph is not None:
                path = variant.adapter_graph.path
                holds = path == adapter_graph_path(name) and self.graph == "fused"
                require(f"{name}'s adapter_graph", path, holds)
            if variant.int8_cache is not None:
                path = variant.int8_cache.graph.path
                holds = path == int8_cache_path(name) and self.graph == "fused"
                require(f"{name}'s int8_cache", path, holds)

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


def int8_cache_path(name: str) -> str:
    """Return where the same variant's graph with an 8-bit cache lies, if there is one."""
    return variant_path(name).removesuffix(".onnx") + "_int8_cache.onnx"


def variant_files(name: str) -> list[str]:
    """Return where a variant's two files lie: its graph, its weights."""
    return [variant_path(name), f"{variant_path(name)}_data"]


def record_files(folder: Path, name: str) -> tuple[FileRecord, ...]:
    """Measure a variant's two files."""
    return tuple(FileRecord.of(folder, path) for path in variant_files(name))


def record_adapter_graph(folder: Path, name: str) -> FileRecord | None:
    """Measure a variant's graph with places for adapters; None where there is none."""
    path = adapter_graph_path(name)
    return FileRecord.of(folder, path) if (folder / path).is_file() else None


def record_companions(folder: Path) -> tuple[FileRecord, ...]:
    """Measure the files beside the graphs, those that are there."""
    present = [name for name in (*RUNTIME_FILES, *TEXTS) if (folder / name).is_file()]
    return tuple(FileRecord.of(folder, name) for name in present)


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write the manifest into `folder`, replacing an older one in one step."""
    from . import atomic  # what only reads, as at start-up, goes without what that imports

    atomic.write_json(folder / MANIFEST, manifest_fields(manifest))


def manifest_fields(manifest: Manifest) -> dict[str, Any]:
    """Return what the manifest's file says."""
    fields = dataclasses.asdict(manifest)
    for part in filter(None, (fields, fields["installing"])):
        if part["installing"] is None:
            del part["installing"]
    return fields


def read_manifest(folder: str | os.PathLike[str] | ModelFiles) -> Manifest:
    """Read the manifest of a folder or a package.

    Fields that this version does not know are passed over: a later one of the same format may add
    some.

    Raises:
        ModelFolderError: there is no folder, no manifest, or one that cannot be understood.
    """
    files = model_files(folder)
    return _that_holds(files, _read(files))


def recorded_states(folder: Path | ModelFiles) -> tuple[Manifest, ...]:
    """Return what a folder's manifest says and, after a kill, what it was to say as well.

    Files that follow from the manifest were written by one of them.

    Raises:
        ModelFolderError: as for `read_manifest`.
    """
    manifest = _read(model_files(folder))
    after = manifest.installing
    now = dataclasses.replace(manifest, installing=None)
    return (now,) if after is None else (now, after)


def _read(files: ModelFiles) -> Manifest:
    path = files.find(MANIFEST)
    if not path.exists():
        raise ModelFolderError(
            f"{files} has no {MANIFEST}, so it is not a model folder; "
            "a checkpoint becomes one by 'pocketgpt export CHECKPOINT FOLDER'"
        )
    fields = read_json_object(path, largest=_LARGEST)
    version = fields.get("format_version")
    if version != FORMAT_VERSION or isinstance(version, bool):
        raise ModelFolderError(
            f"{path} has format_version {version!a:.60}, this PocketGPT reads "
            f"{FORMAT_VERSION}; export the model again"
        )
    try:
        return _manifest_of(fields)
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        what = f"{type(error).__name__}: {error}"
        raise ModelFolderError(f"{path} is damaged ({what:.200}); export the model again") from None


def _that_holds(files: ModelFiles, manifest: Manifest) -> Manifest:
    """Return the manifest, or where the variants it is installing are in place, what it will be."""
    after = manifest.installing
    if after is None:
        return manifest
    before = {name: variant.all_files for name, variant in manifest.variants.items()}
    changed = [v.all_files for n, v in after.variants.items() if before.get(n) != v.all_files]
    installed = all(_is_there(files, record) for records in changed for record in records)
    return after if installed else dataclasses.replace(manifest, installing=None)


def _is_there(files: ModelFiles, record: FileRecord) -> bool:
    """Whether a recorded file is in place: a graph by its hash, its weights by their size."""
    try:
        check_files(files, [record], verify=record.path.endswith(".onnx"))
    except ModelFolderError:
        return False
    return True


def _manifest_of(fields: Mapping[str, Any], *, whole: bool = True) -> Manifest:
    """Make a manifest; of one that is being installed, `whole` is false: it has no other in it."""
    variants = {}
    for name, variant in fields["variants"].items():
        files = tuple(_record_of(FileRecord, record) for record in variant["files"])
        graph = variant.get("adapter_graph")
        adapters = None if graph is None else _record_of(FileRecord, graph)
        cache = variant.get("int8_cache")
        if cache is not None:
            record = _record_of(FileRecord, cache["graph"])
            cache = _record_of(Int8Cache, {**cache, "graph": record})
        parts = {"files": files, "adapter_graph": adapters, "int8_cache": cache}
        fingerprint = variant.get("fingerprint")
        parts["fingerprint"] = None if fingerprint is None else Fingerprint.of_json(fingerprint)
        variants[name] = _record_of(Variant, {**variant, **parts})
    companions = tuple(_record_of(FileRecord, record) for record in fields.get("companions", ()))
    installing = fields.get("installing")
    after = _manifest_of(installing, whole=False) if whole and installing is not None else None
    rest = {"variants": variants, "companions": companions, "installing": after}
    for name in ("remarks", "languages"):
        require(name, lines := fields.get(name, []), isinstance(lines, list))
        rest[name] = tuple(lines)
    return _record_of(Manifest, {**fields, **rest})


def _record_of(kind: type[_Record], fields: Mapping[str, Any]) -> _Record:
    """Make a dataclass of the fields it has; a TypeError names one that is missing."""
    known = {known.name for known in dataclasses.fields(kind)}  # type: ignore[arg-type]
    return kind(**{name: value for name, value in fields.items() if name in known})
