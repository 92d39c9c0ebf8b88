"""What the runtime needs from a folder's `config.json` and `generation_config.json`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from ..errors import ModelFolderError
from .fields import is_whole, shown
from .files import ModelFiles, model_files
from .json_file import read_json_object
from .labels import Labels, labels_of

CONFIG = "config.json"
GENERATION_CONFIG = "generation_config.json"
HEAD_MULTIPLE = 8  # of which the fused graph's heads are: GroupQueryAttention takes no others
LARGEST_SIZE = 2**31 - 1  # what ONNX Runtime's kernels count dimensions by
SIZES = ("n_layer", "n_head", "n_embd", "n_positions", "vocab_size")

Task = Literal["text-generation", "text-classification"]


@dataclass(frozen=True)
class ModelConfig:
    """A GPT-2's shape, by the names of its config.json.

    `n_positions` is the context in tokens; `n_embd` the width, of which each of the `n_head` heads
    of each of the `n_layer` layers takes an equal part. `labels` are a classifier's; a language
    model has none.

    Raises:
        ValueError: a size is no whole number from 1 to 2^31 - 1, or the heads cannot share the
            width; the message begins with the size's name.
    """

    n_layer: int
    n_head: int
    n_embd: int
    n_positions: int
    vocab_size: int
    labels: Labels | None = None

    def __post_init__(self) -> None:
        """Check the sizes."""
        for name in SIZES:
            size = getattr(self, name)
            if not is_whole(size, 1, LARGEST_SIZE):
                raise ValueError(
                    f"{name!r}: it should be a whole number of at least 1, not {shown(size)}"
                )
        if self.n_embd % self.n_head:
            raise ValueError(f"'n_embd': {self.n_head} heads cannot share {self.n_embd}")

    @property
    def head_dim(self) -> int:
        """Width of one head."""
        return self.n_embd // self.n_head

    @property
    def n_logits(self) -> int:
        """Logits after a token: one for each label of a classifier, else one for each token."""
        return self.vocab_size if self.labels is None else len(self.labels.names)

    @property
    def task(self) -> Task:
        """What the model is for, by the name of transformers' pipeline."""
        return "text-generation" if self.labels is None else "text-classification"


def read_config(folder: Path | ModelFiles) -> ModelConfig:
    """Read a model folder's shape, and its labels where it is a classifier's.

    Raises:
        ModelFolderError: config.json is missing, or a number or a label in it.
    """
    path = model_files(folder).find(CONFIG)
    found = read_json_object(path)
    sizes: dict[str, Any] = {name: found.get(name) for name in SIZES}
    try:
        return ModelConfig(**sizes, labels=labels_of(found))
    except ValueError as error:
        raise ModelFolderError(f"{path} lacks a valid {error}; export the model again") from None


def read_generation_defaults(folder: Path | ModelFiles) -> dict[str, Any]:
    """Read generation_config.json; without one, config.json's token ids, as transformers does.

    Raises:
        ModelFolderError: neither can be read.
    """
    files = model_files(folder)
    path = files.find(GENERATION_CONFIG)
    if path.exists():
        return read_json_object(path)
    config = read_json_object(files.find(CONFIG))
    return {name: config.get(name) for name in ("bos_token_id", "eos_token_id")}
