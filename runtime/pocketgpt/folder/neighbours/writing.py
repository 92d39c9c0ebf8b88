"""Writing the neighbours: all that the manifest decides, and nothing that somebody edited."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..atomic import write_text
from ..card import CARD, model_card
from ..config import CONFIG, read_config, read_generation_defaults
from ..file_record import FileRecord, sha256
from ..json_file import json_text, read_bounded, read_json_object
from ..manifest import Manifest
from .bpe import MERGES, VOCAB, bpe_files
from .genai import GENAI_CONFIG, genai_config
from .merging import merged
from .model_package import MODEL_PACKAGE, model_package
from .transformers_js import SETTINGS, settings_of, transformers_js_config

TOKENIZER = "tokenizer.json"
# Written as wholes, each optional; of config.json, which the runtime reads, only a part is.
NEIGHBOURS = (GENAI_CONFIG, MODEL_PACKAGE, VOCAB, MERGES, CARD)


def neighbours_of(
    folder: Path, manifest: Manifest, before: Sequence[Manifest] = ()
) -> dict[str, str]:
    """Return what the files that other runtimes read should say, by their names.

    A file that is not among them is not to be written: it has no use for this model, or is
    somebody's own.

    Args:
        folder: a model folder, of which config.json, generation_config.json and tokenizer.json are
            read.
        manifest: what it holds, or a part of its variants.
        before: the manifests by which the files there may have been written; what says otherwise
            than they do was edited. None where nothing was written yet.

    Raises:
        ModelFolderError: a file that is read is missing or damaged.
    """
    texts = {CONFIG: _config(folder, manifest, before)}
    ours = _Ours(folder, before)
    return texts | {n: text for n, text in _whole_files(folder, manifest).items() if n in ours}


def changed(folder: Path, texts: Mapping[str, str]) -> dict[str, str]:
    """Return those of `texts` that are not what the folder's files say."""
    return {name: text for name, text in texts.items() if _read(folder / name) != text}


def listed(manifest: Manifest, texts: Mapping[str, str]) -> Manifest:
    """Return a manifest that lists files with these texts beside its others."""
    others = (record for record in manifest.companions if record.path not in texts)
    return replace(manifest, companions=(*others, *map(_record, texts.items())))


def write_neighbours(folder: Path, manifest: Manifest, before: Sequence[Manifest] = ()) -> Manifest:
    """Write the files that other runtimes read; return the manifest that lists them.

    Each is replaced in one step. The manifest itself is not written.

    Args:
        folder: a model folder.
        manifest: what it holds.
        before: as for `neighbours_of`.

    Raises:
        ModelFolderError: a file that is read is missing or damaged.
        OSError: one cannot be written.
    """
    texts = neighbours_of(folder, manifest, before)
    for name, text in changed(folder, texts).items():
        write_text(folder / name, text)
    return listed(manifest, texts)


class _Ours:
    """Which files of a folder are as they were written, or are not there: `name in ours`."""

    def __init__(self, folder: Path, before: Sequence[Manifest]) -> None:
        self._folder = folder
        self._before = before
        self._written: list[dict[str, str]] | None = None

    def __contains__(self, name: str) -> bool:
        path = self._folder / name
        if not path.exists():
            return True
        records = (record for state in self._before for record in state.companions)
        hashes = {record.sha256 for record in records if record.path == name}
        if hashes and path.is_file() and sha256(path) in hashes:
            return True
        if self._written is None:  # after a kill, no manifest lists them
            self._written = [_whole_files(self._folder, state) for state in self._before]
        found = _read(path)
        return any(found == texts.get(name) for texts in self._written if name in texts)


def _config(folder: Path, manifest: Manifest, before: Sequence[Manifest]) -> str:
    """Return config.json with its settings for transformers.js renewed."""
    config = read_json_object(folder / CONFIG)
    known = settings_of(config)
    settings = merged(
        known, [transformers_js_config(state) for state in before], transformers_js_config(manifest)
    )
    if settings == known and SETTINGS in config:
        return read_bounded(folder / CONFIG)
    return json_text({**config, SETTINGS: settings})


def _whole_files(folder: Path, manifest: Manifest) -> dict[str, str]:
    """Return the files that are ours from beginning to end."""
    config, defaults = read_config(folder), read_generation_defaults(folder)
    described: dict[str, Any] = {
        GENAI_CONFIG: genai_config(manifest, config, defaults),
        MODEL_PACKAGE: model_package(manifest),
    }
    texts = {name: json_text(value) for name, value in described.items() if value is not None}
    texts |= bpe_files(read_json_object(folder / TOKENIZER))
    return texts | {CARD: model_card(folder, manifest)}


def _read(path: Path) -> str | None:
    """Return what a file says; None where it is missing or no text."""
    try:
        return read_bounded(path)
    except (OSError, ValueError):
        return None


def _record(named: tuple[str, str]) -> FileRecord:
    name, text = named
    content = text.encode("utf-8")
    return FileRecord(name, len(content), hashlib.sha256(content).hexdigest())
