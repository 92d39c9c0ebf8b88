"""`export`: a checkpoint becomes a model folder, proven equal, all of it or nothing."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from transformers import (
    GenerationConfig,
    GPT2ForSequenceClassification,
    PreTrainedTokenizerFast,
)

from pocketgpt import CheckpointError, OptionError, ProofError, __version__
from pocketgpt.engine.graph import open_graph
from pocketgpt.folder.atomic import os_error_line, sha256, write_json
from pocketgpt.folder.config import CONFIG, GENERATION_CONFIG, read_config
from pocketgpt.folder.json_file import read_json_object
from pocketgpt.folder.manifest import (
    GRAPHS,
    MANIFEST,
    TEXTS,
    GraphKind,
    Manifest,
    Variant,
    adapter_graph_path,
    record_adapter_graph,
    record_companions,
    record_files,
    variant_path,
    write_manifest,
)
from pocketgpt.folder.opening import TOKENIZER
from pocketgpt.text.tokenizer import Tokenizer

from .graph.adapters import write_adapter_graph
from .graph.trace import MIN_ONNXRUNTIME, OPSET, trace
from .graph.trace_portable import PORTABLE_OPSET, trace_portable
from .install import install, staging_for, was_interrupted
from .proof.adapter import Adapted, ask_adapted, prove_adapters
from .proof.prove import prove
from .proof.reference import Reference, ask_reference, real_ids
from .source.checkpoint import Checkpoint, load_checkpoint

TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja")
HEAD_MULTIPLE = 8  # GroupQueryAttention takes no other head sizes


def export(
    checkpoint: str | os.PathLike[str],
    folder: str | os.PathLike[str],
    *,
    revision: str | None = None,
    tokenizer: str | os.PathLike[str] | None = None,
    base: str | os.PathLike[str] | None = None,
    graph: str | None = None,
    adapters: bool = False,
    overwrite: bool = False,
    progress: Callable[[str, int, int], None] | None = None,
) -> Manifest:
    """Export a GPT-2 checkpoint to a model folder holding the fp32 variant.

    The folder appears only once the graph's logits are within 1e-4 of PyTorch's; until then, and if
    anything fails, the target stays as it was.

    Args:
        checkpoint: a folder in Hugging Face format, a hub id, a nanoGPT `ckpt.pt`, or a PEFT LoRA
            adapter.
        folder: where to write.
        revision: a hub branch, tag or commit.
        tokenizer: a folder or hub id to take the tokenizer from; None for the checkpoint's own, and
            GPT-2's for a nanoGPT checkpoint.
        base: the checkpoint that an adapter is merged into.
        graph: `fused`, ONNX Runtime's fast operators, for heads of a multiple of 8; or `portable`,
            standard operators alone. None for the first that takes the checkpoint.
        adapters: write the graph a second time too, small and over the same weights, with places
            for LoRA adapters at run time; variants made from the folder then get theirs. The
            `fused` graph only.
        overwrite: replace a model folder that is there, its variants included.
        progress: called with (what is done now, units done, units in all).

    Raises:
        OptionError: there is no such graph, or none with places for adapters; `folder` exists and
            `overwrite` is not given, or it is no model folder.
        CheckpointError: the checkpoint is not GPT-2, incomplete or damaged, or `folder` cannot be
            written.
        ProofError: the graph or the tokenizer differs from the checkpoint.
        MissingExtraError: merging an adapter needs peft, the portable graph optimum-onnx.

    Example:
        >>> export("openai-community/gpt2", "models/gpt2")
    """
    folder = _resolved(folder)
    _check_target(folder, overwrite)
    kind = next((kind for kind in GRAPHS if kind == graph), None)
    if kind is None and graph is not None:
        raise OptionError(f"there is no graph {graph!r}; choose one of {', '.join(GRAPHS)}")

    @contextmanager
    def step(description: str) -> Iterator[None]:
        if progress:
            progress(description, 0, 1)
        yield
        if progress:
            progress(description, 1, 1)

    def load() -> Checkpoint:
        return load_checkpoint(checkpoint, revision, tokenizer=tokenizer, base=base)

    try:
        with staging_for(folder) as staging:
            manifest, reference, own_tokenizer, adapted = _write(
                load, kind, adapters, staging, step
            )
            manifest = replace(manifest, tokenizer=None if tokenizer is None else str(tokenizer))
            with step("proving it equals PyTorch"):
                proof = _prove(staging, reference, own_tokenizer, adapted)
                manifest = replace(manifest, proof=proof)
            write_manifest(staging, manifest)
            install(staging, folder)
    except OSError as error:
        raise CheckpointError(os_error_line(error, folder)) from error
    return manifest


def _resolved(folder: str | os.PathLike[str]) -> Path:
    """Follow links: they stay, and what they lead to is replaced."""
    folder = Path(folder)
    try:
        return folder.resolve() if folder.is_symlink() or folder == Path() else folder
    except (OSError, RuntimeError) as error:
        raise OptionError(f"{folder} cannot be followed: {error}") from None


def _write(
    load: Callable[[], Checkpoint],
    graph: GraphKind | None,
    adapters: bool,
    staging: Path,
    step: Callable[[str], AbstractContextManager[None]],
) -> tuple[Manifest, Reference, PreTrainedTokenizerFast, Adapted | None]:
    """Write all of the folder but the proof; the checkpoint's weights are let go at the end."""
    with step("reading the checkpoint"):
        loaded = load()
        kind = _choose_graph(graph, loaded)
        if adapters and kind != "fused":
            raise OptionError("the portable graph has no places for adapters; merge them: --base")
        if adapters and isinstance(loaded.model, GPT2ForSequenceClassification):
            raise OptionError(
                "a classifier gets no places for adapters: theirs train its head too, which is not "
                "exchanged at run time; merge them before the export"
            )
    with step("tracing the graph"):
        (staging / "onnx").mkdir()
        tracer = trace if kind == "fused" else trace_portable
        tracer(loaded.model, staging / variant_path("fp32"))
        if adapters:
            source, target = variant_path("fp32"), adapter_graph_path("fp32")
            write_adapter_graph(staging / source, staging / target)
        _write_companions(loaded, staging)
        manifest = _manifest(loaded, kind, staging)
    with step("asking PyTorch"):
        reference = ask_reference(loaded.model, real_ids(loaded.tokenizer, loaded.companions))
        adapted = ask_adapted(loaded.model, reference.whole[0].ids) if adapters else None
    for parameter in loaded.model.parameters():
        parameter.data = torch.empty(0)  # torch.export's caches keep the parameters, not their data
    return manifest, reference, loaded.tokenizer, adapted


def _prove(
    staging: Path,
    reference: Reference,
    own_tokenizer: PreTrainedTokenizerFast,
    adapted: Adapted | None,
) -> dict[str, float]:
    config = read_config(staging)
    graph = open_graph(staging / variant_path("fp32"), config)
    tokenizer = Tokenizer(staging / TOKENIZER, config.vocab_size)
    found, failed = prove(graph, tokenizer, reference, own_tokenizer)
    if adapted is not None:
        path = staging / adapter_graph_path("fp32")
        worst, wrong = prove_adapters(path, config, adapted)
        found, failed = {**found, **worst}, failed + wrong
    if failed:
        raise ProofError(failed[0])
    return found


def _choose_graph(graph: GraphKind | None, loaded: Checkpoint) -> GraphKind:
    config = loaded.model.config
    width = config.n_embd // config.n_head
    fits = width % HEAD_MULTIPLE == 0
    if graph == "fused" and not fits:
        raise CheckpointError(
            f"{loaded.source.name} has heads of {width}, and the fused graph takes multiples of "
            f"{HEAD_MULTIPLE}: use the portable one, --graph portable (graph='portable')"
        )
    return graph or ("fused" if fits else "portable")


def _check_target(folder: Path, overwrite: bool) -> None:
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return
    if not folder.is_dir() or not ((folder / MANIFEST).is_file() or was_interrupted(folder)):
        raise OptionError(f"{folder} exists and is no model folder; choose another name")
    if not overwrite:
        raise OptionError(
            f"{folder} holds a model already; --overwrite (overwrite=True) replaces it and drops "
            "its variants"
        )


def _write_companions(checkpoint: Checkpoint, staging: Path) -> None:
    """Write what lies beside the graph: configuration, tokenizer, texts."""
    model, tokenizer = checkpoint.model, checkpoint.tokenizer
    config: dict[str, Any] = json.loads(model.config.to_json_string(use_diff=False))
    config["use_cache"] = True
    config["transformers.js_config"] = {"use_external_data_format": {"model.onnx": True}}
    write_json(staging / CONFIG, config)
    for file in map(Path, tokenizer.save_pretrained(staging)):
        if file.name not in TOKENIZER_FILES:
            file.unlink(missing_ok=True)
    for name in (GENERATION_CONFIG, *TEXTS):
        source = checkpoint.companions / name if checkpoint.companions else None
        if source is not None and source.is_file():
            if name == GENERATION_CONFIG:
                read_json_object(source, CheckpointError, remedy="mend it, or take it away")
            shutil.copyfile(source, staging / name)
    if not (staging / GENERATION_CONFIG).exists():
        GenerationConfig.from_model_config(model.config).save_pretrained(staging)


def _variant(staging: Path, bits: dict[str, int]) -> Variant:
    adapter_graph = record_adapter_graph(staging, "fp32")
    return Variant(record_files(staging, "fp32"), bits, adapter_graph=adapter_graph)


def _manifest(checkpoint: Checkpoint, graph: GraphKind, staging: Path) -> Manifest:
    bits = {name: 32 for name, tensor in checkpoint.model.named_parameters() if tensor.ndim == 2}
    text = staging / "evaluation.txt"
    return Manifest(
        producer=f"pocketgpt {__version__}",
        source=checkpoint.source.name,
        parameters=sum(parameter.numel() for parameter in checkpoint.model.parameters()),
        revision=checkpoint.source.revision,
        base=checkpoint.base.name if checkpoint.base else None,
        graph=graph,
        opset=OPSET if graph == "fused" else PORTABLE_OPSET,
        min_onnxruntime=MIN_ONNXRUNTIME,
        proof={},
        variants={"fp32": _variant(staging, bits)},
        evaluation_sha256=sha256(text) if text.is_file() else None,
        companions=record_companions(staging),
    )
