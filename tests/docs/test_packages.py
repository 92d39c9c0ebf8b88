"""docs/packages.md's reader of a package without PocketGPT: it opens what the folder holds."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest

import pocketgpt

from ..conftest import ROOT
from .markdown import blocks

PROMPT = np.array([[5, 9, 2, 7]], np.int64)


def logits(session: Any) -> Any:
    """Compute a prompt with an empty cache of the shapes that the graph names."""
    feeds: dict[str, Any] = {
        "input_ids": PROMPT,
        "position_ids": np.arange(4)[None],
        "attention_mask": np.ones((1, 4), np.int64),
    }
    for value in session.get_inputs():
        if value.name.startswith("past_key_values."):
            _, heads, _, size = value.shape
            feeds[value.name] = np.zeros((1, heads, 0, size), np.float32)
    return session.run(["logits"], feeds)[0]


@pytest.mark.parametrize("variant", ["fp32", "int8", "q4"])
def test_the_reader_opens_what_the_folder_holds(
    tiny_folder: Path, tmp_path: Path, variant: str
) -> None:
    (code,) = (
        block.text
        for block in blocks(ROOT / "docs" / "packages.md")
        if block.language == "python" and "def open_package" in block.text
    )
    names: dict[str, Any] = {}
    exec(code, names)
    package = tmp_path / "tales.pocketgpt"
    pocketgpt.package(tiny_folder, package, ["fp32", "int8", "q4"])
    graph = "onnx/model.onnx" if variant == "fp32" else f"onnx/model_{variant}.onnx"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        session, mapped = names["open_package"](package, graph, f"{graph}_data")
    folder = onnxruntime.InferenceSession(str(tiny_folder / graph))
    np.testing.assert_array_equal(logits(session), logits(folder))
    assert len(mapped) == package.stat().st_size
