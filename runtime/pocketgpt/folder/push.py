"""Pushing a model folder to the Hugging Face hub: what its manifest lists, in one commit."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path, PurePath
from typing import TYPE_CHECKING

from ..errors import ModelFolderError, OptionError, one_line
from ..extras import needs_extra
from .card import CARD, model_card
from .file_record import check_files
from .hub import HubModel
from .json_file import json_text
from .manifest import (
    MANIFEST,
    REQUIRED_FILES,
    Manifest,
    manifest_fields,
    read_manifest,
    recorded_states,
)
from .neighbours import listed, neighbours_of
from .paths import check_inside

if TYPE_CHECKING:
    from huggingface_hub import HfApi

_GRAPHS = "onnx/model"  # what the names of variants' files begin with


def push(
    folder: str | os.PathLike[str],
    repo: str,
    *,
    variants: Iterable[str] | None = None,
    private: bool = False,
    revision: str | None = None,
) -> str:
    """Upload a model folder to the Hugging Face hub, which then holds what the folder lists.

    All goes up in one commit, with a model card; a README.md that somebody wrote is taken as it is.
    Variants' files that are on the hub and not pushed are deleted there, others stay. The token
    comes from `hf auth login` or HF_TOKEN.

    Args:
        folder: a model folder.
        repo: `user/repo`, made where it is not there.
        variants: those to push; None for all.
        private: make a new repository private.
        revision: a branch to push to, made where it is not there; None for `main`.

    Returns:
        The commit's address.

    Raises:
        ModelFolderError: the folder is missing or damaged, or the hub refuses it.
        VariantNotFoundError: there is no such variant.
        OptionError: `repo` is no name on the hub.
        MissingExtraError: huggingface_hub is not installed.

    Example:
        >>> pocketgpt.push("models/gpt2", "me/gpt2-pocketgpt", variants=["int8", "q4"])
    """
    folder = Path(folder)
    model = HubModel.parsed(repo, revision)
    if model is None:
        raise OptionError(f"{repo!r:.80} is no name on the hub: user/repo")
    with needs_extra("hub"):
        from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi
    files, texts = _contents(folder, model.repo, variants)
    contents: dict[str, str | bytes] = {**files, **texts}
    uploads = [CommitOperationAdd(path, contents[path]) for path in sorted(contents)]
    with _errors(model):
        api = HfApi(library_name="pocketgpt")
        api.create_repo(model.repo, private=private or None, exist_ok=True)
        if model.revision is not None:
            api.create_branch(model.repo, branch=model.revision, exist_ok=True)
        stale = _stale(api, model, contents)
        committed = api.create_commit(
            model.repo,
            [*uploads, *(CommitOperationDelete(path) for path in stale)],
            commit_message="Push a model folder by PocketGPT",
            revision=model.revision,
        )
    return str(committed.commit_url)


@contextmanager
def _errors(model: HubModel) -> Iterator[None]:
    """Turn what huggingface_hub raises into a line."""
    from huggingface_hub.errors import HfHubHTTPError

    try:
        yield
    except Exception as reason:  # requests' or httpx's, by version, are among them
        answer = reason.response if isinstance(reason, HfHubHTTPError) else None
        if answer is not None and answer.status_code in (401, 403):
            raise ModelFolderError(
                f"the hub does not let you write {model.repo}: 'hf auth login', or HF_TOKEN, with "
                "a token that may write"
            ) from reason
        raise ModelFolderError(f"{model} could not be pushed: {one_line(reason)}") from reason


def _contents(
    folder: Path, repo: str, variants: Iterable[str] | None
) -> tuple[dict[str, str], dict[str, bytes]]:
    """Return what is to be pushed by its path there: files on this disk, and texts made for it."""
    manifest = read_manifest(folder)
    names = list(manifest.variants) if variants is None else list(dict.fromkeys(variants))
    chosen = replace(manifest, variants={name: manifest.variant(name) for name in names})
    texts = neighbours_of(folder, chosen, recorded_states(folder))
    if CARD in texts:
        texts[CARD] = model_card(folder, _without_paths(chosen), repo=repo)
    kept = [record for record in manifest.companions if record.path not in texts]
    records = [*kept, *(record for v in chosen.variants.values() for record in v.all_files)]
    check_files(folder, [record for record in records if record.path != CARD], verify=True)
    names = [record.path for record in records]
    if not manifest.companions:  # an older folder's
        names += [name for name in REQUIRED_FILES if name not in texts]
    if CARD not in texts and (folder / CARD).is_file():
        names.append(CARD)
    pushed = listed(_without_paths(replace(chosen, companions=tuple(kept))), texts)
    texts[MANIFEST] = json_text(manifest_fields(pushed))
    files = {name: str(check_inside(folder, name)) for name in names}
    return files, {name: text.encode("utf-8") for name, text in texts.items()}


def _without_paths(manifest: Manifest) -> Manifest:
    """Return a manifest in which what came from a folder on this disk goes by its last name."""

    def public(name: str | None) -> str | None:
        if name is None or not (os.path.lexists(name) or PurePath(name).is_absolute()):
            return name
        return PurePath(name).name or name

    source = manifest.source if manifest.revision is not None else public(manifest.source)
    return replace(
        manifest,
        source=source or manifest.source,
        base=public(manifest.base),
        tokenizer=public(manifest.tokenizer),
    )


def _stale(api: HfApi, model: HubModel, pushed: Iterable[str]) -> list[str]:
    """Return the variants' files that are on the hub and not among those pushed."""
    there = api.list_repo_files(model.repo, revision=model.revision)
    return sorted({path for path in there if path.startswith(_GRAPHS)} - {*pushed})
