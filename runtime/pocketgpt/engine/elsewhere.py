"""Weights that lie elsewhere than a graph says: in a package, or in the hub's cache.

A graph names the file of its weights, which lies beside it, and where in that each one begins
(onnx.proto's `external_data`). This writes another name and adds to where they begin, so that ONNX
Runtime maps them where they lie, as it does in a folder: of a package no byte is unpacked or
copied, by any ONNX Runtime. The file is read as what it is, fields of a protocol buffer, and every
other byte stays.

Buffers that Python maps (`add_external_initializers_from_files_in_memory`) would stay mapped as
long as the model: fp32's peak of memory is then half as high again (docs/packages.md).
"""

from __future__ import annotations

import os
from itertools import starmap

from ..errors import ModelFolderError
from ..folder.files import StoredFile
from .onnx_proto import (
    ATTRIBUTE_GRAPH,
    ATTRIBUTE_TENSOR,
    ENTRY_KEY,
    ENTRY_VALUE,
    GRAPH_INITIALIZER,
    GRAPH_NODE,
    MODEL_GRAPH,
    NODE_ATTRIBUTE,
    TENSOR_EXTERNAL,
)
from .protobuf import edited, field, fields


def with_weights_in(model: bytes, weights: StoredFile, where: object) -> bytes:
    """Return a graph, a file's bytes, whose weights are read from elsewhere: a part of a file, too.

    Args:
        model: the bytes of an .onnx file.
        weights: where they lie; the folder of its file is to be given to ONNX Runtime.
        where: what to call the graph in an error.

    Raises:
        ModelFolderError: it is no graph, or has a weight in another file or beyond the end of this.
    """
    try:
        return edited(model, {MODEL_GRAPH: lambda graph: _moved_graph(graph, weights)})
    except (IndexError, KeyError, ValueError, RecursionError) as error:
        raise ModelFolderError(
            f"{where} cannot be led to its weights: {error}; copy it again, or make it again"
        ) from None


def _moved_graph(graph: bytes, weights: StoredFile) -> bytes:
    def tensor(content: bytes) -> bytes:
        return _moved_tensor(content, weights)

    def subgraph(content: bytes) -> bytes:
        return _moved_graph(content, weights)

    def attribute(content: bytes) -> bytes:
        return edited(content, {ATTRIBUTE_TENSOR: tensor, ATTRIBUTE_GRAPH: subgraph})

    def node(content: bytes) -> bytes:
        return edited(content, {NODE_ATTRIBUTE: attribute})

    return edited(graph, {GRAPH_INITIALIZER: tensor, GRAPH_NODE: node})


def _moved_tensor(tensor: bytes, weights: StoredFile) -> bytes:
    """Return a tensor; where its numbers are in a file, with the place where they are now."""
    parts = [*fields(tensor)]
    entries = [_entry(content) for number, content, _ in parts if number == TENSOR_EXTERNAL]
    if not entries:
        return tensor
    said = dict(entries)
    if said[b"location"] != weights.label.name.encode():
        raise ValueError(f"it looks for them in {said[b'location'][:200]!a}")
    begin, length = int(said.get(b"offset", b"0")), int(said[b"length"])
    if begin < 0 or length < 0 or begin + length > weights.length():
        raise ValueError(f"one ends at byte {begin + length:,}, beyond their end")
    said |= {b"location": os.fsencode(weights.path.name)}
    said |= {b"offset": str(weights.begin + begin).encode()}
    others = [whole for number, _, whole in parts if number != TENSOR_EXTERNAL]
    return b"".join([*others, *starmap(_entry_field, said.items())])


def _entry(content: bytes) -> tuple[bytes, bytes]:
    """Return a StringStringEntryProto's two strings."""
    strings = {number: text for number, text, _ in fields(content)}
    return strings.get(ENTRY_KEY, b""), strings.get(ENTRY_VALUE, b"")


def _entry_field(key: bytes, value: bytes) -> bytes:
    entry = field(ENTRY_KEY, key) + field(ENTRY_VALUE, value)
    return field(TENSOR_EXTERNAL, entry)
