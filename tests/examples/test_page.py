"""examples/browser: the folder that is served, and weights that are unpacked once.

What the page does in a browser is tested by `make test-browser`.
"""

from __future__ import annotations

import json
import shutil
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import prepare
import pytest
from unpack import unpack_at_load

import pocketgpt

IDS = [5, 17, 99, 3, 250, 42]


def logits(folder: Path, graph: str, accuracy_level: int | None = None) -> np.ndarray:
    """Return the next token's logits, as a page's session gives them."""
    path = folder / "onnx" / graph
    if accuracy_level is not None:
        model = onnx.load(path, load_external_data=False)
        for node in model.graph.node:
            for attribute in node.attribute:
                if attribute.name == "accuracy_level":
                    attribute.i = accuracy_level
        path = path.with_name("changed.onnx")
        onnx.save(model, path)
    options = ort.SessionOptions()
    options.add_session_config_entry("session.disable_quant_qdq", "1")
    options.log_severity_level = 3
    session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    feeds = {
        "input_ids": np.array([IDS]),
        "attention_mask": np.ones((1, len(IDS)), np.int64),
        "position_ids": np.arange(len(IDS))[None],
    }
    for value in session.get_inputs():
        if value.name.startswith("past"):
            feeds[value.name] = np.zeros((1, value.shape[1], 0, value.shape[3]), np.float32)
    found: np.ndarray = session.run(["logits"], feeds)[0]
    return found


@pytest.mark.parametrize("variant", ["q4", "int8"])
def test_unpacked_weights_are_the_same_weights(tiny_copy: Path, variant: str) -> None:
    """Those of ONNX Runtime's own product with packed weights, where it multiplies in 32 bits."""
    graph = tiny_copy / "onnx" / f"model_{variant}.onnx"
    unpacked = graph.with_name("unpacked.onnx")
    products = Counter(
        node.op_type for node in onnx.load(graph, load_external_data=False).graph.node
    )
    assert unpack_at_load(graph, unpacked) == products["MatMulNBits"] > 0
    made = onnx.load(unpacked, load_external_data=False)
    onnx.checker.check_model(made)
    assert "MatMulNBits" not in {node.op_type for node in made.graph.node}
    expected = logits(tiny_copy, graph.name, accuracy_level=1)
    np.testing.assert_allclose(logits(tiny_copy, "unpacked.onnx"), expected, atol=1e-3)
    assert np.abs(logits(tiny_copy, graph.name) - expected).max() > 1e-3  # 8-bit products differ


@pytest.fixture
def modules(tmp_path: Path) -> Path:
    """A folder like npm's, with the files that a page takes."""
    for source in prepare.VENDOR.values():
        path = tmp_path / "node_modules" / source
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(source.encode())
    return tmp_path / "node_modules"


def run(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> None:
    monkeypatch.setattr(sys, "argv", ["prepare.py", *map(str, arguments)])
    prepare.main()


def test_a_page_is_a_folder_of_files_with_a_model_folder_in_it(
    tiny_folder: Path, modules: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = tmp_path / "site"
    run(monkeypatch, tiny_folder, site, "--modules", modules)
    assert {path.name for path in site.iterdir()} == {*prepare.PAGE, "vendor", "model"}
    model = pocketgpt.load(site / "model", verify=True)
    assert list(model.manifest.variants) == ["q4"]
    for named in prepare.VENDOR:
        assert (site / "vendor" / named).is_file()
    sizes = json.loads((site / "vendor" / "sizes.json").read_text("utf-8"))
    wasm = site / "vendor" / "ort-wasm-simd-threaded.wasm"
    assert sizes == {wasm.name: wasm.stat().st_size}
    page = (site / "index.html").read_text("utf-8")
    assert "http" not in page.replace("http://www.w3.org/2000/svg", "")  # nothing from elsewhere


def test_what_is_missing_is_said_and_nothing_is_left(
    tiny_folder: Path, modules: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = tmp_path / "site"
    with pytest.raises(SystemExit, match="has no fp16: pocketgpt quantize"):
        run(monkeypatch, tiny_folder, site, "--modules", modules, "--variant", "fp16")
    shutil.rmtree(modules / "onnxruntime-web")
    with pytest.raises(SystemExit, match=r"simd-threaded.mjs is missing: npm install"):
        run(monkeypatch, tiny_folder, site, "--modules", modules)
    assert not site.exists()
