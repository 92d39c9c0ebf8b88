"""Reading a checkpoint's tokenizer of any kind that can be shown token by token.

transformers makes a tokenizer.json of the older files: vocab.json with merges.txt (GPT-2's own),
vocab.txt (BERT's, which most Chinese GPT-2s have), spiece.model (SentencePiece's, Japanese and
Korean ones).
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

from transformers import AutoTokenizer, BertTokenizerFast, PreTrainedTokenizerFast

from pocketgpt import CheckpointError, MissingExtraError
from pocketgpt.folder.config import CONFIG
from pocketgpt.folder.json_file import read_json_object
from pocketgpt.text.detokenizer import Detokenizer

from .assemble import quiet_transformers
from .locate import one_line

_SETTINGS = "tokenizer_config.json"
_SENTENCEPIECE = ("sentencepiece", "google.protobuf")


def load_tokenizer(folder: Path) -> PreTrainedTokenizerFast:
    """Read the tokenizer of a folder.

    Raises:
        CheckpointError: there is none, it is damaged, or of a kind that the runtime cannot run.
        MissingExtraError: its file is SentencePiece's, and what reads that is not installed.
    """
    files = _files(folder)
    named = _class_name(folder)
    if files == "spiece":
        _check_sentencepiece(folder, named)
    try:
        with quiet_transformers():
            kind: Any = BertTokenizerFast if files == "vocab.txt" and not named else AutoTokenizer
            tokenizer: PreTrainedTokenizerFast = kind.from_pretrained(
                folder, local_files_only=True, trust_remote_code=False
            )
    except Exception as error:  # transformers and tokenizers raise many kinds, even plain Exception
        raise CheckpointError(f"{folder}'s tokenizer cannot be read: {one_line(error)}") from error
    check_kind(tokenizer, folder)
    return tokenizer


def check_kind(tokenizer: PreTrainedTokenizerFast, folder: Path) -> None:
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


def _files(folder: Path) -> str:
    """Return what a folder's tokenizer is made of.

    Raises:
        CheckpointError: there is none.
    """
    if (folder / "tokenizer.json").is_file():
        return "tokenizer.json"
    if all((folder / name).is_file() for name in ("vocab.json", "merges.txt")):
        return "vocab.json"
    if (folder / "vocab.txt").is_file():
        return "vocab.txt"
    if any(folder.glob("*.model")):
        return "spiece"
    raise CheckpointError(
        f"{folder} has no tokenizer: neither tokenizer.json, nor vocab.json with merges.txt, "
        "vocab.txt or spiece.model; copy them from the model it was trained from, or give that by "
        "--tokenizer FOLDER (tokenizer=...)"
    )


def _class_name(folder: Path) -> str | None:
    """Return the tokenizer class that a folder names, in the order of transformers' own reading."""
    for name in (_SETTINGS, CONFIG):
        if (folder / name).is_file():
            fields = read_json_object(
                folder / name, CheckpointError, remedy="copy the checkpoint again"
            )
            if isinstance(found := fields.get("tokenizer_class"), str):
                return found
    return None


def _check_sentencepiece(folder: Path, named: str | None) -> None:
    model = next(folder.glob("*.model")).name
    if named is None:
        raise CheckpointError(
            f"{folder} has a SentencePiece tokenizer ({model}) and says nowhere of which class: "
            f'write {{"tokenizer_class": "T5Tokenizer"}}, or the class it is of, to {_SETTINGS}'
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
