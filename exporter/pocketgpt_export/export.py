"""`export`: a checkpoint becomes a model folder, proven equal, all of it or nothing."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from transformers import GenerationConfig

import pocketgpt
from pocketgpt import CheckpointError, OptionError, __version__
from pocketgpt.files import sha256, staging_folder, write_json
from pocketgpt.manifest import FileRecord, Manifest, Variant, variant_path, write_manifest

from .checkpoint import TEXTS, Checkpoint, load_checkpoint
from .proof import prove
from .trace import MIN_ONNXRUNTIME, OPSET, trace


def export(
    checkpoint: str | os.PathLike[str],
    folder: str | os.PathLike[str],
    *,
    revision: str | None = None,
    overwrite: bool = False,
    progress: Callable[[str, int, int], None] | None = None,
) -> Manifest:
    """Export a GPT-2 checkpoint to a model folder holding the fp32 variant.

    The folder appears only once the graph's logits are within 1e-4 of PyTorch's; until then, and if
    anything fails, the target stays as it was.

    Args:
        checkpoint: a folder in Hugging Face format or a hub id.
        folder: where to write.
        revision: a hub branch, tag or commit.
        overwrite: replace a model folder that is there, its variants included.
        progress: called with (what is done now, units done, units in all).

    Raises:
        OptionError: `folder` exists and `overwrite` is not given, or it is no model folder.
        CheckpointError: the checkpoint is not GPT-2, incomplete or damaged.
        ProofError: the graph differs from the checkpoint.

    Example:
        >>> export("openai-community/gpt2", "models/gpt2")
    """
    folder = Path(folder)
    _check_target(folder, overwrite)

    @contextmanager
    def step(description: str) -> Iterator[None]:
        if progress:
            progress(description, 0, 1)
        yield
        if progress:
            progress(description, 1, 1)

    with staging_folder(folder) as staging:
        with step("reading the checkpoint"):
            loaded = load_checkpoint(checkpoint, revision)
        with step("tracing the graph"):
            (staging / "onnx").mkdir()
            trace(loaded.model, staging / variant_path("fp32"))
            _write_companions(loaded, staging)
            manifest = _manifest(loaded, staging)
            write_manifest(staging, manifest)
        with step("proving it equals PyTorch"):
            proof = prove(pocketgpt.load(staging, "fp32"), loaded.model)
            manifest = dataclasses.replace(manifest, proof=proof)
            write_manifest(staging, manifest)
        _install(staging, folder)
    return manifest


def _check_target(folder: Path, overwrite: bool) -> None:
    if not folder.exists():
        return
    if not folder.is_dir() or (any(folder.iterdir()) and not _is_model_folder(folder)):
        raise OptionError(f"{folder} exists and is no model folder; choose another name")
    if not overwrite and any(folder.iterdir()):
        raise OptionError(
            f"{folder} holds a model already; --overwrite (overwrite=True) replaces it and drops "
            "its variants"
        )


def _is_model_folder(folder: Path) -> bool:
    return (folder / "pocketgpt.json").is_file()


def _write_companions(checkpoint: Checkpoint, staging: Path) -> None:
    """Write what lies beside the graph: configuration, tokenizer, texts."""
    model, tokenizer = checkpoint.model, checkpoint.tokenizer
    config: dict[str, Any] = json.loads(model.config.to_json_string(use_diff=False))
    config["use_cache"] = True
    config["transformers.js_config"] = {"use_external_data_format": {"model.onnx": True}}
    write_json(staging / "config.json", config)
    generation = checkpoint.folder / "generation_config.json"
    if generation.is_file():
        shutil.copyfile(generation, staging / generation.name)
    else:
        GenerationConfig.from_model_config(model.config).save_pretrained(staging)
    for file in map(Path, tokenizer.save_pretrained(staging)):
        if file.name not in ("tokenizer.json", "tokenizer_config.json"):
            file.unlink(missing_ok=True)
    for name in TEXTS:
        if (checkpoint.folder / name).is_file():
            shutil.copyfile(checkpoint.folder / name, staging / name)


def _manifest(checkpoint: Checkpoint, staging: Path) -> Manifest:
    graph = variant_path("fp32")
    records = tuple(FileRecord.of(staging, path) for path in (graph, f"{graph}_data"))
    bits = {name: 32 for name, tensor in checkpoint.model.named_parameters() if tensor.ndim == 2}
    text = staging / "evaluation.txt"
    return Manifest(
        producer=f"pocketgpt {__version__}",
        source=checkpoint.source,
        graph="fused",
        opset=OPSET,
        min_onnxruntime=MIN_ONNXRUNTIME,
        proof={},
        variants={"fp32": Variant(records, bits)},
        evaluation_sha256=sha256(text) if text.is_file() else None,
    )


def _install(staging: Path, folder: Path) -> None:
    """Put the finished folder in place; an old one is moved aside first and then removed."""
    try:
        if folder.exists():
            old = staging / "replaced"
            finished = staging.with_name(f"{staging.name}-finished")
            staging.rename(finished)
            staging.mkdir()
            folder.rename(old)
            finished.rename(folder)
        else:
            staging.rename(folder)
    except OSError as error:
        raise CheckpointError(f"{folder} cannot be written: {error}") from error
