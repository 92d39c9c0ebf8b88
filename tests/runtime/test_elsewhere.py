"""Graphs led to weights that lie elsewhere: what onnx reads in them, and what is refused."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pocketgpt import ModelFolderError
from pocketgpt.engine.elsewhere import with_weights_in
from pocketgpt.folder.files import StoredFile

onnx = pytest.importorskip("onnx")

BEGIN = 40960
GRAPHS = [
    "model.onnx",
    "model_int8.onnx",
    "model_q4.onnx",
    "model_int8_cache.onnx",
    "model_int8_int8_cache.onnx",
]


def tensors(graph: Any) -> Iterator[Any]:
    """Yield all tensors of a graph and of its subgraphs."""
    yield from graph.initializer
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("t"):
                yield attribute.t
            if attribute.HasField("g"):
                yield from tensors(attribute.g)


def weights_of(folder: Path, name: str, **changes: Any) -> StoredFile:
    stem = name.removesuffix(".onnx").removesuffix("_int8_cache") or "model"
    stem = "model" if name == "model_int8_cache.onnx" else stem
    label = folder / "onnx" / f"{stem}.onnx_data"
    given = {"path": Path("/models/größe.pocketgpt"), "begin": BEGIN, "size": label.stat().st_size}
    return StoredFile(label, **{**given, **changes})


@pytest.mark.parametrize("name", GRAPHS)
def test_only_the_place_of_weights_is_another(tiny_folder: Path, name: str) -> None:
    content = (tiny_folder / "onnx" / name).read_bytes()
    changed = with_weights_in(content, weights_of(tiny_folder, name), name)
    expected, found = (onnx.ModelProto.FromString(one) for one in (content, changed))
    pairs = list(zip(tensors(expected.graph), tensors(found.graph), strict=True))
    moved = 0
    for old, new in pairs:
        places = [{e.key: e.value for e in tensor.external_data} for tensor in (old, new)]
        if places[0]:
            begin = BEGIN + int(places[0].get("offset", 0))
            others = {"location": "größe.pocketgpt", "offset": str(begin)}
            assert places[1] == {**places[0], **others}
            moved += 1
        new.ClearField("external_data")
        old.ClearField("external_data")
    assert moved > 5
    assert found == expected


def edited(folder: Path, **entries: str | None) -> bytes:
    """Return fp32's graph, of whose weights the first says something else of its place."""
    model = onnx.load(folder / "onnx" / "model.onnx", load_external_data=False)
    tensor = next(tensor for tensor in tensors(model.graph) if tensor.external_data)
    said = {entry.key: entry.value for entry in tensor.external_data}
    del tensor.external_data[:]
    for key, value in {**said, **entries}.items():
        if value is not None:
            tensor.external_data.add(key=key, value=value)
    content: bytes = model.SerializeToString()
    return content


@pytest.mark.parametrize(
    ("entries", "says"),
    [
        ({"location": "secret.bin"}, "it looks for them in b'secret.bin'"),
        ({"location": "../model.onnx_data"}, "it looks for them in"),
        ({"location": None}, "location"),
        ({"length": str(10**12)}, "beyond their end"),
        ({"offset": str(10**12)}, "beyond their end"),
        ({"offset": "-1"}, "beyond their end"),
        ({"length": "-1"}, "beyond their end"),
        ({"length": None}, "length"),
        ({"offset": "here"}, "here"),
    ],
)
def test_weights_that_are_not_there_are_refused(
    tiny_folder: Path, entries: dict[str, str | None], says: str
) -> None:
    content = edited(tiny_folder, **entries)
    with pytest.raises(ModelFolderError, match=says) as caught:
        with_weights_in(content, weights_of(tiny_folder, "model.onnx"), "graph.onnx")
    assert str(caught.value).startswith("graph.onnx cannot be led to its weights: ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", [b"\xff" * 100, b"\x3a\xff", b"\x3a\x05\x2a\x7f"])
def test_what_is_no_graph_is_refused(tiny_folder: Path, content: bytes) -> None:
    with pytest.raises(ModelFolderError, match="cannot be led to its weights"):
        with_weights_in(content, weights_of(tiny_folder, "model.onnx"), "graph.onnx")
