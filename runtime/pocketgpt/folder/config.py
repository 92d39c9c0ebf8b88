"""What the runtime needs from a folder's `config.json` and `generation_config.json`."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from ..errors import ModelFolderError
from .fields import is_whole, shown
from .json_file import read_json_object
from .paths import check_inside

CONFIG = "config.json"
GENERATION_CONFIG = "generation_config.json"
HEAD_MULTIPLE = 8  # of which the fused graph's heads are: GroupQueryAttention takes no others
LARGEST_SIZE = 2**31 - 1  # what ONNX Runtime's kernels count dimensions by


@dataclass(frozen=True)
class ModelConfig:
    """A GPT-2's shape, by the names of its config.json.

    `n_positions` is the context in tokens; `n_embd` the width, of which each of the `n_head` heads
    of each of the `n_layer` layers takes an equal part.

    Raises:
        ValueError: a size is no whole number from 1 to 2^31 - 1, or the heads cannot share the
            width; the message begins with the size's name.
    """

    n_layer: int
    n_head: int
    n_embd: int
    n_positions: int
    vocab_size: int

    def __post_init__(self) -> None:
        """Check the sizes."""
        for field in fields(self):
            size = getattr(self, field.name)
            if not is_whole(size, 1, LARGEST_SIZE):
                raise ValueError(
                    f"{field.name!r}: it should be a whole number of at least 1, not {shown(size)}"
                )
        if self.n_embd % self.n_head:
            raise ValueError(f"'n_embd': {self.n_head} heads cannot share {self.n_embd}")

    @property
    def head_dim(self) -> int:
        """Width of one head."""
        return self.n_embd // self.n_head


def read_config(folder: Path) -> ModelConfig:
    """Read a model folder's shape.

    Raises:
        ModelFolderError: config.json is missing, or a number in it.
    """
    path = check_inside(folder, CONFIG)
    found = read_json_object(path)
    sizes: dict[str, Any] = {field.name: found.get(field.name) for field in fields(ModelConfig)}
    try:
        return ModelConfig(**sizes)
    except ValueError as error:
        raise ModelFolderError(f"{path} lacks a valid {error}; export the model again") from None


def read_generation_defaults(folder: Path) -> dict[str, Any]:
    """Read generation_config.json; without one, config.json's token ids, as transformers does.

    Raises:
        ModelFolderError: neither can be read.
    """
    path = check_inside(folder, GENERATION_CONFIG)
    if path.exists():
        return read_json_object(path)
    config = read_json_object(check_inside(folder, CONFIG))
    return {name: config.get(name) for name in ("bos_token_id", "eos_token_id")}
