"""Model folders on the Hugging Face hub, by `user/repo` or `user/repo@revision`.

What lies on this disk under such a name always goes before. Of the hub's files those are downloaded
that are asked for, to its cache, where they are taken from the next time; HF_HUB_OFFLINE=1 keeps to
the cache, and HF_TOKEN opens private models, as everywhere with huggingface_hub.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from ..errors import ModelFolderError, OptionError, one_line
from .manifest import MANIFEST, REQUIRED_FILES, RUNTIME_FILES, Manifest, read_manifest

Names = Callable[[Manifest], Iterable[str]]

_NAME = re.compile(r"(?P<repo>[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*)(@(?P<revision>[\w./-]+))?")
_MEMBER = "huggingface_hub"


@dataclass(frozen=True)
class HubModel:
    """A model on the hub: its name and, where one is wanted, a branch, tag or commit."""

    repo: str
    revision: str | None = None

    @classmethod
    def of(cls, name: str | os.PathLike[str], revision: str | None = None) -> HubModel | None:
        """Return what a name means; None where it is something on this disk, or no hub's name.

        Raises:
            OptionError: the name has another revision in it than the one given.
        """
        if os.path.lexists(name) or str(name).endswith(".pocketgpt"):  # a package that is not there
            return None
        return cls.parsed(name, revision)

    @classmethod
    def parsed(cls, name: str | os.PathLike[str], revision: str | None = None) -> HubModel | None:
        """Return what a name means on the hub, whatever is on this disk.

        Raises:
            OptionError: as for `of`.
        """
        found = _NAME.fullmatch(Path(name).as_posix())
        if found is None:
            return None
        own = found["revision"]
        if own is not None and revision not in (None, own):
            raise OptionError(f"{name} is of revision {own}, and {revision} was asked for")
        return cls(found["repo"], own or revision)

    def __str__(self) -> str:
        """Return its name as it is written."""
        return self.repo if self.revision is None else f"{self.repo}@{self.revision}"


def every_variant(manifest: Manifest) -> Iterable[str]:
    """Return all of a folder's variants."""
    return manifest.variants


def no_variant(manifest: Manifest) -> Iterable[str]:
    """Return none of a folder's variants: what it holds is asked alone."""
    return ()


def located(
    folder: str | os.PathLike[str],
    variants: Names,
    *,
    revision: str | None = None,
    everything: bool = False,
) -> Path:
    """Return where a model folder lies: as it is named, or in the hub's cache.

    Args:
        folder: a folder, or a model on the hub.
        variants: those whose files are needed, of a manifest.
        revision: a branch, tag or commit of the hub.
        everything: take all that the manifest lists besides, not only what the runtime reads.

    Raises:
        ModelFolderError: the hub and its cache do not have it, or it is no model folder.
        OptionError: a revision was given for a folder on this disk.
    """
    model = HubModel.of(folder, revision)
    if model is None:
        if revision is not None:
            raise OptionError(f"{folder} is on this disk, where it has no revision {revision}")
        return Path(folder)
    beside = Path(folder).parent
    if beside.is_dir():  # a slip of the pen is likelier than somebody on the hub of that name
        raise ModelFolderError(
            f"{model} is not a folder; 'pocketgpt export' makes model folders (the hub is asked "
            f"where there is no folder {beside} here)"
        )
    if not find_spec(_MEMBER):
        raise ModelFolderError(
            f"{model} is not a folder; were it a model on the Hugging Face hub, reading it would "
            "take pip install 'pocketgpt[hub]'"
        )
    home = _file(model, MANIFEST).parent
    pinned = HubModel(model.repo, home.name)  # all files of one commit, whatever is pushed now
    manifest = read_manifest(home)
    listed = [record.path for record in manifest.companions]
    wanted = [name for name in listed if everything or name in RUNTIME_FILES]
    records = (manifest.variant(name).all_files for name in variants(manifest))
    wanted += [record.path for files in records for record in files]
    for path in dict.fromkeys([*REQUIRED_FILES, *wanted]):
        _file(pinned, path)
    return home


def refuse_hub(folder: str | os.PathLike[str], what: str) -> None:
    """Refuse a model on the hub where a folder is to be written into.

    Raises:
        OptionError: it is one.
    """
    if (model := HubModel.of(folder)) is not None and find_spec(_MEMBER):
        raise OptionError(
            f"{model} is not a folder, and {what} writes into one; were it a model on the hub: "
            f"hf download {model.repo} --local-dir FOLDER"
        )


def _file(model: HubModel, path: str) -> Path:
    """Return a file of a model in the cache, downloaded where it is not there."""
    from logging import ERROR

    from huggingface_hub import hf_hub_download
    from huggingface_hub.utils import logging

    told = logging.get_verbosity()
    logging.set_verbosity(ERROR)  # a paragraph for each of its tries; the last one has our line
    try:
        return Path(hf_hub_download(model.repo, path, revision=model.revision))
    except Exception as error:
        raise ModelFolderError(_refusal(model, path, error)) from error
    finally:
        logging.set_verbosity(told)


def _refusal(model: HubModel, path: str, reason: Exception) -> str:
    """Return a line for what huggingface_hub raised where a file of a model was asked for."""
    from huggingface_hub import errors

    match reason:
        case errors.GatedRepoError():
            return (
                f"{model} is gated: ask for it on https://huggingface.co/{model.repo}, then 'hf "
                "auth login', or HF_TOKEN"
            )
        case errors.RepositoryNotFoundError():
            return (
                f"{model.repo} is neither a folder nor a model on the hub; one that is private "
                "takes 'hf auth login', or HF_TOKEN"
            )
        case errors.RevisionNotFoundError():
            return f"{model.repo} has no revision {model.revision} on the hub"
        case errors.LocalEntryNotFoundError():
            return (
                f"{model} is not a folder; the hub's cache has no {path} of it, and the hub cannot "
                "be reached, or HF_HUB_OFFLINE is set"
            )
        case errors.EntryNotFoundError() if path == MANIFEST:
            return (
                f"{model} is on the hub and has no {MANIFEST}, so it is not a model folder; a "
                f"checkpoint becomes one by 'pocketgpt export {model.repo} FOLDER'"
            )
        case errors.EntryNotFoundError():
            return f"{model} lacks {path} on the hub, which its {MANIFEST} lists; push it again"
        case _:  # requests' or httpx's, by version
            return hub_failure(str(model), reason)


def hub_failure(name: str, reason: Exception) -> str:
    """Return a line on a model that could not be had."""
    return (
        f"{name} is neither a folder nor a model that the hub or its cache gives: "
        f"{one_line(reason)}"
    )
