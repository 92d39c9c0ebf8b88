"""Where a checkpoint lies: a folder, a file, or a model on the Hugging Face hub or in its cache."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from huggingface_hub import snapshot_download

from pocketgpt import CheckpointError
from pocketgpt.folder.card import CARD
from pocketgpt.folder.hub import hub_failure
from pocketgpt.folder.manifest import TEXTS

WEIGHTS = (
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
)
_TOKENIZER_PATTERNS = ("*.json", "*.jinja", "merges.txt", "vocab.txt", "*.model")
_SAFE_PATTERNS = (*_TOKENIZER_PATTERNS, "*.safetensors", *TEXTS, CARD)
_ALL_PATTERNS = (*_SAFE_PATTERNS, "pytorch_model*.bin", "adapter_model.bin")


@dataclass(frozen=True)
class Source:
    """A checkpoint's name as it was given, where it lies, and for a hub model its commit."""

    name: str
    path: Path
    revision: str | None = None


def locate(
    source: str | os.PathLike[str], revision: str | None = None, *, local_only: bool = False
) -> Source:
    """Find a checkpoint; download it where it is a hub id that the cache lacks.

    A token for private models comes from the environment (HF_TOKEN), and HF_HUB_OFFLINE=1 keeps to
    the cache, as everywhere with huggingface_hub.

    Args:
        source: a folder, a file, or a hub id such as `openai-community/gpt2`.
        revision: a hub branch, tag or commit.
        local_only: never use the network.

    Raises:
        CheckpointError: it is not there.
    """
    path, name = Path(source), str(source)
    if path.is_dir() or path.is_file():
        if revision is not None:
            raise CheckpointError(f"{source} is on this disk, where it has no revision {revision}")
        return Source(name, path)
    if path.is_absolute() or name.startswith((".", "~")) or name.count("/") > 1:
        raise CheckpointError(f"{source} is not a checkpoint folder, nor a file")
    folder = _snapshot(name, revision, _SAFE_PATTERNS, local_only)
    if not any(folder.glob("*.safetensors")):  # only then the older, larger files
        folder = _snapshot(name, revision, _ALL_PATTERNS, local_only)
    return Source(name, folder, folder.name)


def locate_tokenizer(source: str | os.PathLike[str], *, local_only: bool = False) -> Path:
    """Find a folder with a tokenizer, by path or hub id.

    Raises:
        CheckpointError: it is not there.
    """
    path = Path(source)
    return path if path.is_dir() else _snapshot(str(source), None, _TOKENIZER_PATTERNS, local_only)


def _snapshot(name: str, revision: str | None, patterns: tuple[str, ...], local_only: bool) -> Path:
    try:
        return Path(
            snapshot_download(
                name,
                revision=revision,
                allow_patterns=list(patterns),
                ignore_patterns=["*/*"],
                local_files_only=local_only,
            )
        )
    except Exception as error:  # the hub's own errors and, by version, requests' or httpx's
        at = f" at revision {revision}" if revision else ""
        raise CheckpointError(hub_failure(f"{name}{at}", error)) from error
