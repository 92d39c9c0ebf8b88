"""An adapter that was trained on a resized embedding: the base's gets as many rows."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from pocketgpt import CheckpointError

from .classifier import GPT2

# A whole table, saved because it was resized or trained: of the embedding or of the head.
_WHOLE = re.compile(
    r"(?:.*\.)?(?P<table>wte|lm_head)\.(?P<saved>modules_to_save\.(?:\w+\.)?)?(?:base_layer\.)?weight"
)
# Halves of a LoRA on one of them, and which of their dimensions is as long as the vocabulary.
_HALVES = {
    re.compile(r"(?:.*\.)?wte\.lora_embedding_A(?:\.\w+)?"): 1,
    re.compile(r"(?:.*\.)?lm_head\.lora_B(?:\.\w+)?\.weight"): 0,
}


def fit_rows(model: GPT2, tensors: Mapping[str, Tensor], folder: Path) -> None:
    """Give the embedding of `model` as many rows as the adapter's tensors have.

    Raises:
        CheckpointError: they disagree, or new rows are not among them.
    """
    rows = _rows(tensors)
    if not rows or rows == {model.config.vocab_size}:
        return
    if len(rows) > 1:
        raise CheckpointError(
            f"{folder} holds embeddings of {' and '.join(map(str, sorted(rows)))} rows: save the "
            "adapter again"
        )
    (count,) = rows
    if count > model.config.vocab_size and not _holds_new_rows(model, tensors):
        raise CheckpointError(
            f"{folder} was trained with an embedding of {count} rows, the base has "
            f"{model.config.vocab_size}, and the adapter does not hold the others: save it again "
            "with save_embedding_layers=True"
        )
    model.resize_token_embeddings(count, mean_resizing=False)
    model.config.vocab_size = count


def _rows(tensors: Mapping[str, Tensor]) -> set[int]:
    rows = {t.shape[0] for name, t in tensors.items() if _WHOLE.fullmatch(name) and t.ndim == 2}
    for half, dim in _HALVES.items():
        rows |= {
            t.shape[dim] for name, t in tensors.items() if half.fullmatch(name) and t.ndim == 2
        }
    return rows


def _holds_new_rows(model: GPT2, tensors: Mapping[str, Tensor]) -> bool:
    """Whether both the embedding and the head are there, be it as one that is tied."""
    found = [match for name in tensors if (match := _WHOLE.fullmatch(name))]
    tables = {match["table"] for match in found}
    followed = any(match["table"] == "wte" and not match["saved"] for match in found)
    return "wte" in tables and (
        "lm_head" in tables or (followed and model.config.tie_word_embeddings)
    )
