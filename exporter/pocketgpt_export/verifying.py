"""`verify`: is a model folder what was exported, and does its graph still equal its checkpoint."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable
from typing import Any

from pocketgpt import OptionError, PocketGPTError
from pocketgpt.engine.graph import open_graph
from pocketgpt.folder.config import SIZES
from pocketgpt.folder.files import ModelFiles, model_files
from pocketgpt.folder.hub import every_variant, located
from pocketgpt.folder.labels import Labels, labels_of
from pocketgpt.folder.manifest import Manifest, read_manifest
from pocketgpt.folder.opening import open_folder
from pocketgpt.folder.verification import Verification, verify_files
from pocketgpt.text.tokenizer import Tokenizer

from .proof.adapter import ask_adapted, prove_adapters
from .proof.float64 import Asked, prove_beyond_float32
from .proof.prove import prove
from .proof.reference import ask_reference, real_ids
from .source.checkpoint import Checkpoint, load_checkpoint

STEP = "proving it equals PyTorch"
Progress = Callable[[str, int, int], None]


def verify(
    folder: str | os.PathLike[str],
    checkpoint: str | os.PathLike[str] | None = None,
    *,
    revision: str | None = None,
    tokenizer: str | os.PathLike[str] | None = None,
    base: str | os.PathLike[str] | None = None,
    progress: Progress | None = None,
) -> Verification:
    """Check a model's files, and prove its fp32 graph against its checkpoint again.

    Args:
        folder: what `export` or `pocketgpt package` wrote, or its name on the hub.
        checkpoint: what it was exported from; None for the manifest's source if it still is on this
            machine, and no proof if it is not.
        revision: a hub branch, tag or commit.
        tokenizer: where the tokenizer comes from, if not from the checkpoint.
        base: what `checkpoint` is merged into, if it is an adapter.
        progress: called with (what is done now, units done, units in all).

    Returns:
        What was found; `failures` is empty if everything holds.

    Raises:
        ModelFolderError: the folder is missing, or its manifest is damaged.
        CheckpointError: `checkpoint` was given and cannot be read.
        OptionError: `checkpoint` was given, and there is no fp32 variant.

    Example:
        >>> verify("models/gpt2", "openai-community/gpt2").failures
        ()
    """
    files = model_files(located(folder, every_variant, everything=True))
    found = verify_files(files, progress)
    if found.failures:
        return dataclasses.replace(found, unproven="files are damaged")
    if "fp32" not in found.variants:
        if checkpoint is not None:
            raise OptionError(
                f"{files} has no fp32 variant, which alone equals a checkpoint: leave --checkpoint "
                "out, or verify the folder that it was packaged from"
            )
        return dataclasses.replace(found, unproven="there is no fp32 variant, which alone can be")

    def load() -> Checkpoint:
        if checkpoint is None:
            return _load_recorded(read_manifest(files))
        return load_checkpoint(checkpoint, revision, tokenizer=tokenizer, base=base)

    try:
        loaded = load()
    except PocketGPTError as error:
        if checkpoint is not None:
            raise
        return dataclasses.replace(found, unproven=f"give --checkpoint to prove it: {error}")
    if progress:
        progress(STEP, 0, 1)
    found = _proven(found, files, loaded, load)
    if progress:
        progress(STEP, 1, 1)
    return found


def _load_recorded(manifest: Manifest) -> Checkpoint:
    return load_checkpoint(
        manifest.source,
        manifest.revision,
        tokenizer=manifest.tokenizer,
        base=manifest.base,
        local_only=True,
    )


def _fields(sizes: object, labels: Labels | None) -> dict[str, Any]:
    """Return what a folder's configuration has to share with its checkpoint's, by name."""
    found = {name: getattr(sizes, name) for name in SIZES}
    names = None if labels is None else list(labels.names)
    kind = None if labels is None else (labels.problem_type, labels.pad_token_id)
    return {**found, "labels": names, "problem_type and pad_token_id": kind}


def _proven(
    found: Verification, files: ModelFiles, loaded: Checkpoint, load: Callable[[], Checkpoint]
) -> Verification:
    opened = open_folder(files, "fp32")
    own = loaded.model.config
    expected = _fields(own, labels_of(own.to_dict()))
    for name, value in _fields(opened.config, opened.config.labels).items():
        other = expected[name]
        if other != value:
            return found.with_failure(
                f"{loaded.source.name} is another checkpoint: its {name} is {other}, the folder's "
                f"{value}"
            )
    reference = ask_reference(loaded.model, real_ids(loaded.tokenizer, loaded.companions))
    places = opened.record.adapter_graph
    adapted = None if places is None else ask_adapted(loaded.merged(), reference.whole[0].ids)
    graph = open_graph(opened.graph, opened.config, weights=opened.weights)
    opened.check_kind(graph.contract.kind)
    tokenizer = Tokenizer(opened.tokenizer, opened.config.vocab_size)

    def run(asked: Asked) -> tuple[dict[str, float], list[str]]:
        proof, failed = prove(graph, tokenizer, asked.reference, loaded.tokenizer)
        if asked.adapted is not None and places is not None:
            worst, wrong = prove_adapters(
                opened.files.find(places.path),
                opened.config,
                asked.adapted,
                asked.reference.float32_error,
                weights=opened.weights,
            )
            proof, failed = {**proof, **worst}, failed + wrong
        return proof, failed

    proven = prove_beyond_float32(run, Asked(reference, adapted), load)
    return dataclasses.replace(
        found, proof=proven.found, tolerance=proven.tolerance, failures=tuple(proven.failed)
    )
