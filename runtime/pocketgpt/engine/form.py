"""In what form a graph goes to ONNX Runtime: as its file, or as bytes that were changed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from ..errors import ModelFolderError
from ..folder.config import ModelConfig
from ..folder.files import StoredFile
from .attention import with_chosen_attention
from .elsewhere import with_weights_in
from .ragged import with_query_lengths

_LARGEST = 2**31 - 1  # bytes of a protocol buffer


def form_of(
    graph: StoredFile, weights: StoredFile | None, tuned: bool, config: ModelConfig
) -> tuple[bytes | None, Path | None]:
    """Return a graph's bytes, and the folder of its weights; nothing where its file will do.

    A graph in memory is not led to weights that links lead to, as in the hub's cache: there it gets
    the place that the link leads to, where that is known.

    Args:
        graph: the .onnx file.
        weights: the file of its weights; None for the one beside it.
        tuned: whether it is to take rows of different lengths, and its attention to go the faster
            way, where they can.
        config: the model's shape.

    Raises:
        ModelFolderError: it is a part of a package, and damaged.
    """
    elsewhere = graph.is_part or _is_linked(graph.path)
    if not graph.is_part and (not tuned or (elsewhere and weights is None)):
        return None, None
    try:
        content, folder = _read(graph), graph.path.parent
        if elsewhere and weights is not None:
            weights = replace(weights, path=weights.path.resolve())
            content, folder = with_weights_in(content, weights, graph), weights.path.parent
    except ModelFolderError:
        if graph.is_part:
            raise
        return None, None  # ONNX Runtime knows how to say it
    try:
        if tuned:
            content = with_chosen_attention(with_query_lengths(content), config)
    except ModelFolderError:  # it is portable, or damaged
        return (content, folder) if graph.is_part else (None, None)
    return content, folder


def _is_linked(path: Path) -> bool:
    return path.is_symlink() and path.resolve().parent != path.parent.resolve()


def _read(graph: StoredFile) -> bytes:
    try:
        return graph.read(_LARGEST)
    except (OSError, ValueError) as error:
        raise ModelFolderError(f"{graph} cannot be read: {error}") from None
