"""Reading a checkpoint's tokenizer of any kind that can be shown token by token.

transformers makes a tokenizer.json of the older files: vocab.json with merges.txt (GPT-2's own),
vocab.txt (BERT's, which most Chinese GPT-2s have), spiece.model (SentencePiece's, Japanese and
Korean ones). What a later transformers wrote is said in words that the installed one knows.
"""

from __future__ import annotations

import shutil
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import transformers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from pocketgpt import CheckpointError, MissingExtraError
from pocketgpt.errors import one_line
from pocketgpt.folder.atomic import write_json
from pocketgpt.folder.config import CONFIG
from pocketgpt.folder.json_file import read_json_object
from pocketgpt.text.detokenizer import Detokenizer

from .formats import check_no_pointer
from .quiet import quiet_transformers

SETTINGS = "tokenizer_config.json"
TEMPLATE = "chat_template.jinja"
FILES = (
    *("tokenizer.json", SETTINGS, "special_tokens_map.json", "added_tokens.json"),
    *("vocab.json", "merges.txt", "vocab.txt", TEMPLATE),
)
_SENTENCEPIECE = ("sentencepiece", "google.protobuf")
# What transformers 5 writes of the program; its classes have other names there.
_OF_TRANSFORMERS_5 = ("backend", "is_local", "local_files_only")


def has_tokenizer(folder: Path) -> bool:
    """Tell whether a folder has a tokenizer's files."""
    return _files(folder) is not None


def load_tokenizer(folder: Path) -> PreTrainedTokenizerFast:
    """Read the tokenizer of a folder.

    Raises:
        CheckpointError: there is none, it is damaged, or of a kind that the runtime cannot run.
        MissingExtraError: its file is SentencePiece's, and what reads that is not installed.
    """
    files = _files(folder)
    if files is None:
        raise CheckpointError(
            f"{folder} has no tokenizer: neither tokenizer.json, nor vocab.json with merges.txt, "
            "vocab.txt or spiece.model; copy them from the model it was trained from, or give that "
            "by --tokenizer FOLDER (tokenizer=...)"
        )
    if files == "spiece.model":
        _check_sentencepiece(folder)
    try:
        with quiet_transformers():
            tokenizer = _read_tokenizer(folder, files)
    except CheckpointError:
        raise
    except Exception as error:  # transformers and tokenizers raise many kinds, even plain Exception
        why = _file_by_another_name(folder, files) or one_line(error)
        raise CheckpointError(f"{folder}'s tokenizer cannot be read: {why}") from error
    _check_kind(tokenizer, folder)
    return tokenizer


def _read_tokenizer(folder: Path, files: str) -> PreTrainedTokenizerFast:
    """Read a tokenizer as transformers does, in words that the installed one knows."""
    for name in FILES:
        check_no_pointer(folder / name)
    settings = _read(folder / SETTINGS)
    known = _in_known_words(settings, folder)
    if "tokenizer_class" not in known and not _read(folder / CONFIG).get("model_type"):
        known = {**known, "tokenizer_class": "GPT2TokenizerFast"}  # a model folder of 2019
    if files == "vocab.txt" and _class_name(folder) is None:
        known = {**known, "tokenizer_class": "BertTokenizerFast"}
    if known == settings:
        return _auto(folder)
    with TemporaryDirectory() as scratch:
        for path in (*(folder / name for name in (*FILES, CONFIG)), *folder.glob("*.model")):
            if path.is_file():
                shutil.copyfile(path, Path(scratch) / path.name)
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


def _check_kind(tokenizer: PreTrainedTokenizerFast, folder: Path) -> None:
    """Refuse a tokenizer that has no tokenizer.json, or whose text cannot come token by token.

    Raises:
        CheckpointError: the message names its kind.
    """
    name = type(tokenizer).__name__
    if not isinstance(tokenizer, PreTrainedTokenizerFast):
        raise CheckpointError(
            f"{folder}'s tokenizer is a {name}, of which transformers makes no tokenizer.json, and "
            "PocketGPT runs nothing else; give another by --tokenizer FOLDER (tokenizer=...)"
        )
    backend = tokenizer.backend_tokenizer
    try:
        Detokenizer(backend)
    except Exception as error:  # tokenizers raises plain Exception, too
        model = type(backend.model).__name__
        raise CheckpointError(
            f"{folder}'s tokenizer is {model}, and {one_line(error)}; PocketGPT runs byte-level "
            "BPE, which is GPT-2's, WordPiece, SentencePiece's kinds and WordLevel"
        ) from error


def _files(folder: Path) -> str | None:
    """Return what a folder's tokenizer is made of; None where it has none."""
    if (folder / "tokenizer.json").is_file():
        return "tokenizer.json"
    if all((folder / name).is_file() for name in ("vocab.json", "merges.txt")):
        return "vocab.json"
    if (folder / "vocab.txt").is_file():
        return "vocab.txt"
    return "spiece.model" if any(folder.glob("*.model")) else None


def _class_name(folder: Path) -> str | None:
    """Return the tokenizer class that a folder names, in the order of transformers' own reading."""
    found = (_read(folder / name).get("tokenizer_class") for name in (SETTINGS, CONFIG))
    return next((name for name in found if isinstance(name, str)), None)


def _file_by_another_name(folder: Path, files: str) -> str | None:
    """Return a line where the class that is named looks for none of the files that are there."""
    named = _class_name(folder)
    if named is None:
        return None
    wanted: dict[str, str] = getattr(getattr(transformers, named, None), "vocab_files_names", {})
    names = [name for name in wanted.values() if name != "tokenizer.json"]
    if not names or any((folder / name).is_file() for name in names):
        return None
    found = next(folder.glob("*.model")).name if files == "spiece.model" else files
    return (
        f"it has {found}, and a {named}, which {SETTINGS} or {CONFIG} names, reads "
        f"{' and '.join(names)}: write its class there, or give the file its name"
    )


def _check_sentencepiece(folder: Path) -> None:
    model = next(folder.glob("*.model")).name
    check_no_pointer(folder / model)
    if _class_name(folder) is None:
        raise CheckpointError(
            f"{folder} has a SentencePiece tokenizer ({model}) and says nowhere of which class: "
            f'write {{"tokenizer_class": "T5Tokenizer"}}, or the class it is of, to {SETTINGS}'
        )
    missing = [name for name in _SENTENCEPIECE if not _is_installed(name)]
    if missing:
        raise MissingExtraError(
            f"{folder}'s tokenizer ({model}) is SentencePiece's, and reading it needs "
            f"{' and '.join(missing)}: pip install 'pocketgpt[sentencepiece]'"
        )


def _is_installed(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:  # of google, for google.protobuf
        return False
