"""What the runtime needs from a folder's `config.json` and `generation_config.json`."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import ModelFolderError


@dataclass(frozen=True)
class ModelConfig:
    """A GPT-2's shape, by the names of its config.json.

    `n_positions` is the context in tokens; `n_embd` the width, of which each of the `n_head` heads
    of each of the `n_layer` layers takes an equal part.
    """

    n_layer: int
    n_head: int
    n_embd: int
    n_positions: int
    vocab_size: int

    @property
    def head_dim(self) -> int:
        """Width of one head."""
        return self.n_embd // self.n_head


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object.

    Raises:
        ModelFolderError: the file is missing or no JSON object.
    """
    try:
        fields = json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        raise ModelFolderError(f"{path} is missing; export the model again") from None
    except (OSError, ValueError) as error:
        raise ModelFolderError(f"{path} cannot be read: {error}") from None
    if not isinstance(fields, dict):
        raise ModelFolderError(f"{path} should hold a JSON object")
    return fields


def read_config(folder: Path) -> ModelConfig:
    """Read a model folder's shape.

    Raises:
        ModelFolderError: config.json is missing, or a number in it.
    """
    fields = read_json(folder / "config.json")
    try:
        return ModelConfig(**{name: int(fields[name]) for name in ModelConfig.__annotations__})
    except (KeyError, TypeError, ValueError) as error:
        raise ModelFolderError(f"{folder / 'config.json'} lacks a valid {error}") from None


def read_generation_defaults(folder: Path) -> dict[str, Any]:
    """Read generation_config.json; without one, config.json's token ids, as transformers does."""
    path = folder / "generation_config.json"
    fields = read_json(path if path.exists() else folder / "config.json")
    if path.exists():
        return fields
    return {name: fields.get(name) for name in ("bos_token_id", "eos_token_id")}
