"""`export`: a checkpoint becomes a model folder, proven equal, all of it or nothing."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
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
from pocketgpt.engine.selftest import prompts_of, take_fingerprint
from pocketgpt.folder.atomic import os_error_line, write_json
from pocketgpt.folder.config import (
    CONFIG,
    GENERATION_CONFIG,
    HEAD_MULTIPLE,
    read_config,
    read_generation_defaults,
)
from pocketgpt.folder.file_record import sha256
from pocketgpt.folder.install import check_target, install, staging_for
from pocketgpt.folder.json_file import read_json_object
from pocketgpt.folder.manifest import (
    GRAPHS,
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
from pocketgpt.folder.neighbours import write_neighbours
from pocketgpt.folder.neighbours.transformers_js import SETTINGS
from pocketgpt.folder.opening import TOKENIZER
from pocketgpt.generation.folder_defaults import default_remarks, usable_defaults
from pocketgpt.generation.options import GenerationOptions
from pocketgpt.text.tokenizer import Tokenizer

from .graph.adapters import write_adapter_graph
from .graph.trace import MIN_ONNXRUNTIME, OPSET, trace
from .graph.trace_portable import PORTABLE_OPSET, trace_portable
from .keeping import keep_card
from .proof.adapter import ask_adapted, prove_adapters
from .proof.float64 import Asked, prove_beyond_float32
from .proof.prove import prove
from .proof.reference import ask_reference, real_ids
from .source.card import read_card_facts
from .source.checkpoint import COMPANIONS, Checkpoint, load_checkpoint
from .source.classifier import GPT2
from .source.formats import check_no_pointer
from .source.quiet import quiet_transformers

TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja")


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
    anything fails, the target stays as it was. What the checkpoint holds and the folder does not is
    said in the manifest's `remarks`.

    Args:
        checkpoint: a folder in Hugging Face format, a hub id, a nanoGPT `ckpt.pt`, or a PEFT LoRA
            adapter.
        folder: where to write.
        revision: a hub branch, tag or commit.
        tokenizer: a folder or hub id to take the tokenizer from; None for the checkpoint's own, and
            GPT-2's for a nanoGPT checkpoint with none beside it.
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
    check_target(folder, overwrite)
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
            written = _write(load, kind, adapters, staging, step)
            with step("proving it equals PyTorch"):
                manifest = _prove(staging, written, load)
            manifest = replace(manifest, tokenizer=None if tokenizer is None else str(tokenizer))
            keep_card(folder, staging)
            manifest = write_neighbours(staging, manifest)
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


@dataclass(frozen=True)
class _Written:
    """What an export has once all but the proof is written."""

    manifest: Manifest
    asked: Asked
    tokenizer: PreTrainedTokenizerFast


def _write(
    load: Callable[[], Checkpoint],
    graph: GraphKind | None,
    adapters: bool,
    staging: Path,
    step: Callable[[str], AbstractContextManager[None]],
) -> _Written:
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
    with step("asking PyTorch"):
        reference = ask_reference(loaded.model, real_ids(loaded.tokenizer, loaded.companions))
    with step("tracing the graph"):
        model = loaded.merged()
        (staging / "onnx").mkdir()
        tracer = trace if kind == "fused" else trace_portable
        tracer(model, staging / variant_path("fp32"))
        if adapters:
            source, target = variant_path("fp32"), adapter_graph_path("fp32")
            write_adapter_graph(staging / source, staging / target)
        _write_companions(loaded, model, staging)
        manifest = _manifest(loaded, model, kind, staging)
        adapted = ask_adapted(model, reference.whole[0].ids) if adapters else None
    for parameter in model.parameters():
        parameter.data = torch.empty(0)  # torch.export's caches keep the parameters, not their data
    return _Written(manifest, Asked(reference, adapted), loaded.tokenizer)


def _prove(staging: Path, written: _Written, load: Callable[[], Checkpoint]) -> Manifest:
    """Return the manifest with what the proof found, and with what the proven graph says to a few
    prompts, by which devices will be tested."""
    config = read_config(staging)
    graph = open_graph(staging / variant_path("fp32"), config)
    tokenizer = Tokenizer(staging / TOKENIZER, config.vocab_size)
    places = adapter_graph_path("fp32") if written.asked.adapted is not None else None

    def run(asked: Asked) -> tuple[dict[str, float], list[str]]:
        found, failed = prove(graph, tokenizer, asked.reference, written.tokenizer)
        if asked.adapted is not None and places is not None:
            worst, wrong = prove_adapters(
                staging / places, config, asked.adapted, asked.reference.float32_error
            )
            found, failed = {**found, **worst}, failed + wrong
        return found, failed

    proven = prove_beyond_float32(run, written.asked, load)
    if proven.failed:
        raise ProofError(proven.failed[0])
    random, text = (case.ids for case in written.asked.reference.context)
    fingerprint = take_fingerprint(graph.decoder, prompts_of(random, text))
    manifest = written.manifest
    fp32 = replace(manifest.variants["fp32"], fingerprint=fingerprint)
    remarks = (*manifest.remarks, *proven.remarks)
    return replace(manifest.with_variant("fp32", fp32), proof=proven.found, remarks=remarks)


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


def _write_companions(checkpoint: Checkpoint, model: GPT2, staging: Path) -> None:
    """Write what lies beside the graph: configuration, tokenizer, texts."""
    tokenizer = checkpoint.tokenizer
    config: dict[str, Any] = json.loads(model.config.to_json_string(use_diff=False))
    config["use_cache"] = True
    config.pop(SETTINGS, None)  # for other files than the folder's
    write_json(staging / CONFIG, config)
    # By which transformers and transformers.js cut a prompt; without one they cut nothing.
    tokenizer.model_max_length = min(tokenizer.model_max_length, model.config.n_positions)
    for file in map(Path, tokenizer.save_pretrained(staging)):
        if file.name not in TOKENIZER_FILES:
            file.unlink(missing_ok=True)
    for name in COMPANIONS:
        there = (folder / name for folder in checkpoint.companions if (folder / name).is_file())
        source = next(there, None)
        if source is not None:
            check_no_pointer(source)
            if name == GENERATION_CONFIG:
                read_json_object(source, CheckpointError, remedy="mend it, or take it away")
            shutil.copyfile(source, staging / name)
    if not (staging / GENERATION_CONFIG).exists():
        write_json(staging / GENERATION_CONFIG, _generation_config(model))


def _generation_config(model: GPT2) -> dict[str, Any]:
    """Return the generation values that config.json holds, as older checkpoints have them.

    GenerationConfig's own `save_pretrained` refuses what many of those say.
    """
    with quiet_transformers():
        found: dict[str, Any] = GenerationConfig.from_model_config(model.config).to_diff_dict()
    return found


def _generation_remarks(vocab_size: int, staging: Path) -> list[str]:
    """Return a line for all that generating will not heed, or refuse, of generation_config.json."""
    defaults = read_generation_defaults(staging)
    remarks = [f"{GENERATION_CONFIG}: {line}" for line in default_remarks(defaults, vocab_size)]
    try:
        GenerationOptions.resolve(usable_defaults(defaults, vocab_size), {})
    except OptionError as error:
        remarks.append(f"every generation will fail that says nothing else: {error}")
    return remarks


def _token_type_remarks(checkpoint: Checkpoint) -> list[str]:
    """Return a line where transformers' pipeline would give a classifier more than the ids."""
    is_classifier = isinstance(checkpoint.model, GPT2ForSequenceClassification)
    if not is_classifier or "token_type_ids" not in checkpoint.tokenizer.model_input_names:
        return []
    return [
        "the tokenizer gives token_type_ids, for which transformers' pipeline and Trainer add the "
        "embedding of token 0 to every token: labels here are those of the ids alone"
    ]


def _variant(staging: Path, bits: dict[str, int]) -> Variant:
    adapter_graph = record_adapter_graph(staging, "fp32")
    return Variant(record_files(staging, "fp32"), bits, adapter_graph=adapter_graph)


def _manifest(checkpoint: Checkpoint, model: GPT2, graph: GraphKind, staging: Path) -> Manifest:
    bits = {name: 32 for name, tensor in model.named_parameters() if tensor.ndim == 2}
    card = read_card_facts(checkpoint.companions)
    text = staging / "evaluation.txt"
    return Manifest(
        producer=f"pocketgpt {__version__}",
        source=checkpoint.source.name,
        parameters=sum(parameter.numel() for parameter in model.parameters()),
        revision=checkpoint.source.revision,
        base=checkpoint.base.name if checkpoint.base else None,
        graph=graph,
        opset=OPSET if graph == "fused" else PORTABLE_OPSET,
        min_onnxruntime=MIN_ONNXRUNTIME,
        proof={},
        variants={"fp32": _variant(staging, bits)},
        evaluation_sha256=sha256(text) if text.is_file() else None,
        companions=record_companions(staging),
        remarks=(
            *checkpoint.remarks,
            *_token_type_remarks(checkpoint),
            *_generation_remarks(model.config.vocab_size, staging),
        ),
        license=card.license,
        languages=card.languages,
    )
