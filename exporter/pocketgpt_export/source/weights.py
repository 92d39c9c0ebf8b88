"""Reading a checkpoint's tensors: safetensors or PyTorch files, whole or in shards."""

from __future__ import annotations

import re
import zipfile
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor

from pocketgpt import CheckpointError
from pocketgpt.errors import one_line
from pocketgpt.folder.json_file import read_json_object
from pocketgpt.folder.paths import is_plain_name

from .formats import check_no_pointer, no_weights
from .locate import WEIGHTS
from .numpy_pickles import NUMPY_NUMBERS

# Where a trainer keeps the model's tensors beside its own state.
_STATES = ("state_dict", "model_state_dict", "model_state", "model", "module", "net")
_NESTED = 3  # states in states that are opened
_GLOBAL = re.compile(r"GLOBAL ([\w.]+)")


def has_weights(folder: Path) -> bool:
    """Tell whether a folder has weights that `read_weights` would read."""
    return any((folder / name).is_file() for name in WEIGHTS)


def read_weights(folder: Path) -> dict[str, Tensor]:
    """Read a folder's weights as they are stored, memory-mapped where the format allows.

    PyTorch files are unpickled as tensors alone (`weights_only`), so that a file cannot run code.

    Raises:
        CheckpointError: there are none, or a file is missing, damaged or more than tensors.
    """
    for name in WEIGHTS:
        if (folder / name).is_file():
            files = _shards(folder / name) if name.endswith(".json") else [folder / name]
            tensors: dict[str, Tensor] = {}
            for file in files:
                tensors |= _read_file(file)
            return tensors
    raise no_weights(folder)


def read_pickle(path: Path) -> dict[str, Any]:
    """Read a PyTorch file that holds a dict of tensors, plain values and NumPy's numbers.

    Raises:
        CheckpointError: it is missing, damaged, or holds anything else.
    """
    check_no_pointer(path)
    try:
        with torch.serialization.safe_globals([*NUMPY_NUMBERS]):
            content = torch.load(
                path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path)
            )
    except Exception as error:  # a damaged pickle raises anything
        if "weights_only" in str(error) or "Unsupported" in str(error):
            found = _GLOBAL.search(str(error))
            what = f"holds a {found[1]}, which is code" if found else "holds more than tensors"
            raise CheckpointError(
                f"{path} {what}, and PocketGPT runs no code from a checkpoint: save it again with "
                "tensors and plain numbers alone, its state_dict as safetensors if you can"
            ) from error
        raise CheckpointError(f"{path} cannot be read: {one_line(error)}") from error
    if not isinstance(content, dict):
        raise CheckpointError(f"{path} holds a {type(content).__name__}, not a dict of tensors")
    return content


def _shards(index: Path) -> list[Path]:
    check_no_pointer(index)
    places = read_json_object(index, CheckpointError, remedy="copy the checkpoint again")
    weight_map = places.get("weight_map")
    names = list(weight_map.values()) if isinstance(weight_map, dict) else []
    if not names or not all(map(is_plain_name, names)):
        raise CheckpointError(f"{index} should name files beside it")
    names = sorted(set(names))
    for name in names:
        if not (index.parent / name).is_file():
            raise CheckpointError(f"{index.parent} lacks {name}, which {index.name} names")
    return [index.parent / name for name in names]


def _read_file(path: Path) -> dict[str, Tensor]:
    check_no_pointer(path)
    if path.suffix == ".safetensors":
        try:
            return _with_aliases(load_file(path), path)
        except Exception as error:  # safetensors' own error is not an OSError, and torch's vary
            raise CheckpointError(f"{path} cannot be read: {one_line(error)}") from error
    content = read_pickle(path)
    for _ in range(_NESTED):
        states = (content[name] for name in _STATES if isinstance(content.get(name), dict))
        content = next(states, content)
    return check_tensors(content, path)


def _with_aliases(tensors: dict[str, Tensor], path: Path) -> dict[str, Tensor]:
    """Add what `safetensors.torch.save_model` left out: names of a tensor that has another, too."""
    with safe_open(path, "pt") as file:
        metadata: dict[str, str] = file.metadata() or {}
    aliases = {name: tensors[kept] for name, kept in metadata.items() if kept in tensors}
    return {**aliases, **tensors}


def check_tensors(content: dict[Any, Any], path: Path) -> dict[str, Tensor]:
    """Return `content` if every value is a tensor with all its numbers in the file.

    Raises:
        CheckpointError: one is not; a tensor that repeats few bytes may claim any size.
    """
    for name, tensor in content.items():
        if not isinstance(name, str) or not isinstance(tensor, Tensor):
            raise CheckpointError(f"{path} should hold tensors alone, and {name} is none")
        if tensor.layout != torch.strided or (
            tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes()
        ):
            raise CheckpointError(f"{path}: {name} is not stored whole")
    return content
