"""Opening a model: the one way from a folder or a package to what is in it, checked."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import onnxruntime as ort

from ..errors import ModelFolderError, OptionError, VariantNotFoundError
from .config import HEAD_MULTIPLE, ModelConfig, read_config, read_generation_defaults
from .file_record import FileRecord, check_files, hash_of
from .files import ModelFiles, State, StoredFile, model_files
from .manifest import (
    MANIFEST,
    REQUIRED_FILES,
    RUNTIME_FILES,
    Manifest,
    Variant,
    adapter_graph_path,
    int8_cache_path,
    read_manifest,
    variant_files,
)
from .onnxruntime_version import is_onnxruntime
from .pairing import CPU, first_of, suitable_variants

TOKENIZER = "tokenizer.json"
KvCache = Literal["auto", "int8", "float"]
CACHE_ONNXRUNTIME = "1.32"  # the oldest whose CPU kernels read 8-bit keys and values


@dataclass(frozen=True)
class OpenFolder:
    """A model's files, read and checked, and the variant that was chosen.

    `generation_defaults` is its generation_config.json; `record` is the manifest's of `variant`;
    `adapters` says that its graph with places for LoRA adapters is to be opened, `int8_cache` that
    the one with an 8-bit cache is.
    """

    files: ModelFiles
    manifest: Manifest
    config: ModelConfig
    generation_defaults: Mapping[str, Any]
    variant: str
    record: Variant
    state: State
    adapters: bool = False
    int8_cache: bool = False

    @property
    def folder(self) -> Path:
        """The folder, or the package."""
        return self.files.root

    @property
    def graph(self) -> StoredFile:
        """The graph to open."""
        return self.files.find(self._graph.path)

    @property
    def weights(self) -> StoredFile:
        """The weights of all its graphs."""
        return self.files.find(self.record.files[1].path)

    @property
    def graph_path(self) -> Path:
        """The graph's file, in a folder; the weights lie at the plain one's path + `_data`."""
        return self.folder / self._graph.path

    @property
    def graph_sha256(self) -> str:
        """One hash of that graph and of the weights, from the hashes in the manifest."""
        return hash_of([self._graph.sha256, self.record.files[1].sha256])

    @property
    def _graph(self) -> FileRecord:
        record = self.record.adapter_graph if self.adapters else None
        if self.int8_cache and self.record.int8_cache is not None:
            record = self.record.int8_cache.graph
        return record or self.record.files[0]

    @property
    def tokenizer(self) -> StoredFile:
        """Its tokenizer.json."""
        return self.files.find(TOKENIZER)

    def check_kind(self, kind: str) -> None:
        """Check that a graph is of the kind that the manifest says all are.

        Raises:
            ModelFolderError: it is of another.
        """
        if kind != self.manifest.graph:
            raise ModelFolderError(
                f"{self.graph} is a {kind} graph, and the manifest says "
                f"{self.manifest.graph}; export the model again"
            )

    def check_unchanged(self) -> None:
        """Check, once everything is open, that what was opened is what was checked.

        Raises:
            ModelFolderError: the manifest or one of the variant's files was replaced in between.
        """
        if self.files.state(_opened_names(self.variant)) != self.state:
            raise ModelFolderError(f"{self.folder} was changed while it was read; load it again")


def open_folder(
    folder: str | os.PathLike[str] | ModelFiles,
    variant: str | None = None,
    *,
    verify: bool = False,
    adapters: bool = False,
    kv_cache: KvCache = "float",
    provider: str = CPU,
) -> OpenFolder:
    """Read a model folder or a package, and check the files that a variant takes.

    Args:
        folder: what `pocketgpt export` or `pocketgpt package` wrote.
        variant: `fp32`, `int8`, `q4`, ...; None for the first there is that suits the provider.
        verify: check the sha256 of every file that the runtime reads, not only names and sizes.
        adapters: open the graph with places for LoRA adapters.
        kv_cache: `int8` to open the graph with an 8-bit cache, `float` for the variant's own,
            `auto` for 8 bits where the variant's weights have no more, and such a graph is there.
            Those are for the CPU alone.
        provider: what is to run it, by ONNX Runtime's name.

    Raises:
        ModelFolderError: the folder is missing, damaged, or for a later ONNX Runtime.
        OptionError: there are no places for adapters in it, or no graph with an 8-bit cache.
        VariantNotFoundError: it has no such variant.
    """
    files = model_files(folder)
    manifest = read_manifest(files)
    chosen = pick_variant(manifest, variant, provider)
    manifest.variant(chosen)
    state = files.state(_opened_names(chosen))
    manifest = read_manifest(files)  # again: had it been replaced before, nobody would know
    record = manifest.variant(chosen)
    check_onnxruntime(files.root, manifest)
    cached = _wants_int8_cache(kv_cache, record, adapters, provider)
    if cached:
        check_has_int8_cache(files.root, manifest, chosen, adapters)
    if adapters:
        check_has_places(files, manifest, record)
    everything = adapters or cached or verify
    check_files(files, record.all_files if everything else record.files, verify=verify)
    if verify:
        check_companions(files, manifest, RUNTIME_FILES)
    tokenizer = files.find(TOKENIZER)
    if not tokenizer.is_file():
        raise ModelFolderError(f"{tokenizer} is missing, or no file; export the model again")
    return OpenFolder(
        files=files,
        manifest=manifest,
        config=read_config(files),
        generation_defaults=read_generation_defaults(files),
        variant=chosen,
        record=record,
        state=state,
        adapters=adapters,
        int8_cache=cached,
    )


def pick_variant(manifest: Manifest, variant: str | None, provider: str = CPU) -> str:
    """Return the variant asked for, or where none is, the first there is that suits the provider.

    On the CPU all of them run: where none is known to suit it, the only one there is will do.

    Raises:
        VariantNotFoundError: none suits it.
    """
    if variant is not None:
        return variant
    suitable = suitable_variants(provider, manifest.graph)
    chosen = first_of(suitable, manifest.variants)
    if chosen is None and provider == CPU and len(manifest.variants) == 1:
        return next(iter(manifest.variants))
    if chosen is None:
        raise VariantNotFoundError(
            f"none of this folder's {manifest.graph} variants, {', '.join(manifest.variants)}, "
            f"suits {provider}: name one, or 'pocketgpt quantize FOLDER {suitable[0]}'"
        )
    return chosen


def open_chunks(
    opened: OpenFolder, variant: str, *, verify: bool, provider: str = CPU
) -> OpenFolder:
    """Open another variant, which is to compute the long chunks of an opened one's texts.

    Args:
        opened: what computes the steps.
        variant: the other one.
        verify: as for `open_folder`.
        provider: as for `open_folder`.

    Raises:
        OptionError: keys and values of the two do not mean the same.
        ModelFolderError: it is damaged.
        VariantNotFoundError: there is no such variant.
    """
    record = opened.manifest.variant(variant)
    alike = record.basis is not None and record.basis == opened.record.basis
    if not alike or opened.adapters or (opened.int8_cache and record.int8_cache is None):
        raise OptionError(
            f"prefill_variant: {variant} cannot compute the prompts of {opened.variant}: only "
            "int8, q8 and q4 made with one calibration text can, without adapters; 'pocketgpt "
            f"quantize {opened.folder} {opened.variant} {variant}' makes them so"
        )
    kv_cache: KvCache = "int8" if opened.int8_cache else "float"
    return open_folder(opened.files, variant, verify=verify, kv_cache=kv_cache, provider=provider)


def check_has_places(files: ModelFiles, manifest: Manifest, record: Variant) -> None:
    """Check that a variant has a graph with places for LoRA adapters.

    Raises:
        OptionError: it has none.
    """
    if record.adapter_graph is None:
        width = read_config(files).head_dim
        if width % HEAD_MULTIPLE:
            raise OptionError(
                f"{files} has heads of {width}, and places for LoRA adapters take heads of a "
                f"multiple of {HEAD_MULTIPLE}: merge the adapter, export --base"
            )
        graph = " --graph fused" if manifest.graph != "fused" else ""
        raise OptionError(
            f"{files} has no places for LoRA adapters: export its checkpoint again with{graph} "
            "--adapters (adapters=True), and make its variants again; or merge: export --base"
        )


def _wants_int8_cache(kv_cache: KvCache, record: Variant, adapters: bool, provider: str) -> bool:
    if kv_cache not in get_args(KvCache):
        choices = ", ".join(get_args(KvCache))
        raise OptionError(f"kv_cache should be one of {choices}, not {kv_cache!r}")
    if kv_cache != "auto":
        if kv_cache == "int8" and provider != CPU:
            raise OptionError(
                f"kv_cache='int8' (--kv-cache int8) is for the CPU alone, not {provider}: leave it "
                "out there"
            )
        return kv_cache == "int8"
    if provider != CPU or record.int8_cache is None or adapters:
        return False
    return is_onnxruntime(CACHE_ONNXRUNTIME) and min(record.bits.values(), default=32) <= 8


def check_has_int8_cache(folder: Path, manifest: Manifest, variant: str, adapters: bool) -> None:
    """Check that a variant can be run with an 8-bit cache.

    Raises:
        OptionError: it cannot; the message says why, and what to do.
    """
    refused = "kv_cache='int8' (--kv-cache int8)"
    if adapters:
        raise OptionError(f"{refused} cannot go with adapters: merge the adapter, export --base")
    if not is_onnxruntime(CACHE_ONNXRUNTIME):
        raise OptionError(
            f"{refused} takes ONNX Runtime {CACHE_ONNXRUNTIME} or newer, and {ort.__version__} is "
            f"installed: pip install 'onnxruntime>={CACHE_ONNXRUNTIME}'"
        )
    if manifest.variant(variant).int8_cache is not None:
        return
    if manifest.graph != "fused":
        raise OptionError(f"{refused} is for the fused graph, and {folder} holds a portable one")
    raise OptionError(
        f"{refused}: {folder} has no graph of {variant} with an 8-bit cache; 'pocketgpt quantize "
        f"{folder} VARIANT' writes it for fp32 and for variants with a float32 cache, scaled by a "
        "calibration text"
    )


def check_onnxruntime(folder: Path, manifest: Manifest) -> None:
    """Check that the installed ONNX Runtime runs the folder's graphs.

    Raises:
        ModelFolderError: it is too old.
    """
    if not is_onnxruntime(manifest.min_onnxruntime):
        raise ModelFolderError(
            f"{folder} takes ONNX Runtime {manifest.min_onnxruntime} or newer, and "
            f"{ort.__version__} is installed: pip install 'onnxruntime>={manifest.min_onnxruntime}'"
        )


def check_companions(files: ModelFiles, manifest: Manifest, names: Iterable[str]) -> None:
    """Check the sha256 of those of `names` that the manifest records, and that there are no others.

    Raises:
        ModelFolderError: one is missing, altered or added.
    """
    known = {record.path: record for record in manifest.companions}
    for name in names:
        if name in known:
            check_files(files, [known[name]], verify=True)
        elif known and name not in REQUIRED_FILES and files.find(name).exists():
            raise ModelFolderError(f"{files.find(name)} was added: the manifest does not list it")


def _opened_names(variant: str) -> list[str]:
    """Return the files that must not be replaced while a variant is opened."""
    graphs = adapter_graph_path(variant), int8_cache_path(variant)
    return [MANIFEST, *variant_files(variant), *graphs]
