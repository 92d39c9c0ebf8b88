"""Reading a tokenizer's files, those of later transformers too."""

from __future__ import annotations

import shutil
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import transformers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from pocketgpt import CheckpointError
from pocketgpt.folder.atomic import write_json
from pocketgpt.folder.config import CONFIG
from pocketgpt.folder.json_file import read_json_object

from .formats import check_no_pointer

SETTINGS = "tokenizer_config.json"
TEMPLATE = "chat_template.jinja"
FILES = (
    *("tokenizer.json", SETTINGS, "special_tokens_map.json", "added_tokens.json"),
    *("vocab.json", "merges.txt", TEMPLATE),
)
_LEGACY = ("vocab.json", "merges.txt")
# What transformers 5 writes of the program; its classes have other names there.
_OF_TRANSFORMERS_5 = ("backend", "is_local", "local_files_only")


def has_tokenizer(folder: Path) -> bool:
    """Tell whether a folder has a tokenizer's files."""
    return (folder / "tokenizer.json").is_file() or all(
        (folder / name).is_file() for name in _LEGACY
    )


def read_tokenizer(folder: Path) -> PreTrainedTokenizerFast:
    """Read a tokenizer as transformers does, in words that the installed one knows.

    Raises:
        CheckpointError: a file is a placeholder of git-lfs, or its settings are no JSON.
        Exception: transformers and tokenizers raise many kinds for what they cannot read.
    """
    for name in FILES:
        check_no_pointer(folder / name)
    settings = _read(folder / SETTINGS)
    known = _in_known_words(settings, folder)
    if "tokenizer_class" not in known and not _read(folder / CONFIG).get("model_type"):
        known = {**known, "tokenizer_class": "GPT2TokenizerFast"}  # a model folder of 2019
    if known == settings:
        return _auto(folder)
    with TemporaryDirectory() as scratch:
        for name in (*FILES, CONFIG):
            if (folder / name).is_file():
                shutil.copyfile(folder / name, Path(scratch) / name)
        write_json(Path(scratch) / SETTINGS, known)
        tokenizer = _auto(Path(scratch))
    tokenizer.name_or_path = str(folder)
    tokenizer.init_kwargs["name_or_path"] = str(folder)
    return tokenizer


def own_template(folder: Path) -> str | None:
    """Return the chat template that a folder has, be it without a tokenizer; None for none."""
    if (folder / TEMPLATE).is_file():
        check_no_pointer(folder / TEMPLATE)
        return (folder / TEMPLATE).read_text("utf-8")
    template = _read(folder / SETTINGS).get("chat_template")
    return template if isinstance(template, str) else None


def _auto(folder: Path) -> PreTrainedTokenizerFast:
    tokenizer: PreTrainedTokenizerFast = AutoTokenizer.from_pretrained(
        folder, local_files_only=True, trust_remote_code=False
    )
    return tokenizer


def _read(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    return read_json_object(path, CheckpointError, remedy="copy it again")


def _in_known_words(settings: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Say what transformers 5 wrote as the installed transformers 4 understands it."""
    if not settings or int(transformers.__version__.split(".")[0]) >= 5:
        return settings
    known = {name: value for name, value in settings.items() if name not in _OF_TRANSFORMERS_5}
    extra = known.get("extra_special_tokens")
    if isinstance(extra, list):  # there the additional ones are called so
        del known["extra_special_tokens"]
        named_so = known.get("additional_special_tokens") or []
        known["additional_special_tokens"] = [*named_so, *(t for t in extra if t not in named_so)]
    named = known.get("tokenizer_class")
    if isinstance(named, str) and not hasattr(transformers, named):
        # A class of none but tokenizer.json; with vocab.json alone config.json's type tells it.
        known["tokenizer_class"] = "PreTrainedTokenizerFast"
        if not (folder / "tokenizer.json").is_file():
            del known["tokenizer_class"]
    known.pop("auto_map", None)  # code that is never run
    return known
