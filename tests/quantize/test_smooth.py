"""Evened out inputs: the same function, with smaller outliers."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from pocketgpt.config import read_config
from pocketgpt.decoder import Decoder
from pocketgpt.session import open_session
from pocketgpt_quantize.blockwise import Floats
from pocketgpt_quantize.calibration import Recorder
from pocketgpt_quantize.rewrite import load_graph, products_of, save
from pocketgpt_quantize.smooth import smooth

IDS = [5, 260, 270, 280, 300, 17, 290, 265, 301, 310] * 13
CANNOT = {
    "transformer.h.0.mlp.c_proj.weight",
    "transformer.h.1.mlp.c_proj.weight",
    "transformer.wte.weight",
}


def peaks(folder: Path, graph: Path) -> dict[str, Floats]:
    """Return the largest value of every input channel of a graph's products."""
    products = products_of(load_graph(graph).graph)
    recorder = Recorder(graph, read_config(folder), IDS, products)
    return recorder.largest([product.weight for product in products])


def logits(folder: Path, graph: Path) -> Floats:
    return Decoder(open_session(graph), read_config(folder)).score(IDS[:100])


def spread(channels: Floats) -> float:
    return float(channels.max() / np.median(channels))


def test_the_function_stays_and_the_outliers_go(outlier_folder: Path, tmp_path: Path) -> None:
    source, target = outlier_folder / "onnx" / "model.onnx", tmp_path / "model.onnx"
    before = peaks(outlier_folder, source)
    model = load_graph(source)
    scales = smooth(model.graph, before)
    assert set(before) - set(scales) == CANNOT
    save(model, target)
    after = peaks(outlier_folder, target)
    for name, scale in scales.items():
        np.testing.assert_allclose(after[name], before[name] / scale, rtol=1e-3, atol=1e-5)
        if "c_proj" not in name:
            assert spread(before[name]) > 20
            assert spread(after[name]) < spread(before[name]) / 5
    expected = logits(outlier_folder, source)
    found = logits(outlier_folder, target)
    np.testing.assert_allclose(found, expected, atol=2e-4 * np.abs(expected).max())


def test_only_what_has_peaks_is_changed(model_folder: Path) -> None:
    source = model_folder / "onnx" / "model.onnx"
    name = "transformer.h.0.attn.c_attn.weight"
    found = peaks(model_folder, source)
    graph = load_graph(source).graph
    assert set(smooth(graph, {name: found[name]})) == {name}
