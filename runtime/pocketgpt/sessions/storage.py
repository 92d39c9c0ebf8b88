"""A session's file: the text's ids, its cache, and which model they belong to.

A safetensors file, https://github.com/huggingface/safetensors, of three tensors: `token_ids`
[tokens], int64; `keys` and `values` [n_layer, n_head, length, head_dim] in the cache's type, for
the first `length` of the tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from ..errors import SessionError
from ..extras import needs_extra
from ..folder.config import ModelConfig

FORMAT = "pocketgpt-session-1"
LARGEST = 1e9  # of a key or a value: its square, which a norm sums, is far from float32's end
_TENSORS = ("token_ids", "keys", "values")


@dataclass(frozen=True)
class SavedSession:
    """What a session's file holds: `keys` and `values` are [n_layer, n_head, length, head_dim]."""

    token_ids: list[int]
    keys: NDArray[np.generic]
    values: NDArray[np.generic]


def write_session(
    path: Path,
    token_ids: Sequence[int],
    keys: NDArray[np.generic],
    values: NDArray[np.generic],
    model_sha256: str,
) -> None:
    """Write a session, replacing what is there in one step.

    Args:
        path: the file, or a link to it.
        token_ids: the whole text.
        keys: [n_layer, n_head, length, head_dim].
        values: of the same shape.
        model_sha256: what tells the loaded variant, and the adapter, from any other.

    Raises:
        SessionError: the file cannot be written.
        MissingExtraError: safetensors is not installed.
    """
    from ..folder.atomic import staging_folder

    with needs_extra("sessions"):
        from safetensors import SafetensorError
        from safetensors.numpy import save_file
    tensors = {
        "token_ids": np.array(token_ids, np.int64),
        "keys": np.ascontiguousarray(keys),
        "values": np.ascontiguousarray(values),
    }
    metadata = {"format": FORMAT, "model_sha256": model_sha256}
    try:
        target = path.resolve() if path.is_symlink() else path  # the link stays
        if target.exists() and not target.is_file():  # a device, which the system would let go
            raise ValueError("it is there and no file; choose another name")
        with staging_folder(target) as staging:
            save_file(tensors, staging / target.name, metadata)
            (staging / target.name).replace(target)
    except (OSError, ValueError, SafetensorError) as error:  # ValueError: no name for a file
        raise SessionError(f"{path} cannot be written: {_line(error)}") from None


def read_session(
    path: Path, model_sha256: str, config: ModelConfig, dtype: DTypeLike, opened: str
) -> SavedSession:
    """Read a session that `write_session` wrote, and check all of it against the model.

    Args:
        path: the file.
        model_sha256: the loaded variant's.
        config: the model's shape.
        dtype: the type of its cache.
        opened: what the loaded variant is called, and the adapter, for the message.

    Raises:
        SessionError: the file is no session, is damaged, or is another model's or variant's.
        MissingExtraError: safetensors is not installed.
    """
    with needs_extra("sessions"):
        from safetensors import safe_open
    try:
        if not path.is_file():
            raise OSError("it is no file")
        with safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
            if metadata.get("format") != FORMAT:
                raise SessionError(f"{path} is not a session that this PocketGPT can read")
            if metadata.get("model_sha256") != model_sha256:
                raise SessionError(
                    f"{path} was saved with another model or variant than {opened}; load that one"
                )
            if sorted(file.keys()) != sorted(_TENSORS):
                raise ValueError(f"its tensors should be {', '.join(_TENSORS)}")
            token_ids, keys, values = (file.get_tensor(name) for name in _TENSORS)
        _check_tokens(token_ids, config)
        _check_cache(keys, values, len(token_ids), config, np.dtype(dtype))
    except SessionError:
        raise
    except Exception as error:  # safetensors maps the header's faults to exceptions of all kinds
        raise SessionError(f"{path} cannot be read: {_line(error)}") from None
    return SavedSession(token_ids.tolist(), keys, values)


def _check_tokens(token_ids: NDArray[Any], config: ModelConfig) -> None:
    """Require the ids of a text that fits the model."""
    if token_ids.dtype != np.int64 or token_ids.ndim != 1:
        raise ValueError(
            f"token_ids should be a list of int64, not {token_ids.dtype} {token_ids.shape}"
        )
    if len(token_ids) > config.n_positions:
        raise ValueError(
            f"it has {len(token_ids)} tokens, the model's context is {config.n_positions}"
        )
    if not ((token_ids >= 0) & (token_ids < config.vocab_size)).all():
        raise ValueError(f"a token id is outside the vocabulary of {config.vocab_size}")


def _check_cache(
    keys: NDArray[Any], values: NDArray[Any], tokens: int, config: ModelConfig, dtype: np.dtype[Any]
) -> None:
    """Require keys and values of the model's shape and type, for at most `tokens` tokens."""
    for name, cache in (("keys", keys), ("values", values)):
        length = keys.shape[2] if keys.ndim == 4 else 0
        shape = (config.n_layer, config.n_head, length, config.head_dim)
        if cache.dtype != dtype or cache.shape != shape:
            raise ValueError(
                f"{name} should be {dtype} [{config.n_layer}, {config.n_head}, length, "
                f"{config.head_dim}], not {cache.dtype} {[*cache.shape]}"
            )
        # NaN fails, too: it compares with nothing.
        if cache.size and not (cache.min() >= -LARGEST and cache.max() <= LARGEST):
            raise ValueError(f"{name} hold NaN, infinity or numbers no model computes")
    if length > tokens:
        raise ValueError(f"its cache is of {length} tokens, its text has {tokens}")


def _line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
