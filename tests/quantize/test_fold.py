"""Folds change what products read, and nothing of what the graph computes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

import pocketgpt
from pocketgpt.folder.config import read_config
from pocketgpt.folder.manifest import (
    Variant,
    read_manifest,
    record_files,
    variant_path,
    write_manifest,
)
from pocketgpt_quantize.graph.fold import Fold, balanced, fold
from pocketgpt_quantize.graph.rewrite import load_graph, products_of, save
from pocketgpt_quantize.observe.calibration import Recorder, Spread
from pocketgpt_quantize.rounding.format import Floats

IDS = np.random.default_rng(3).integers(0, 300, 128).tolist()


def random_fold(name: str, weight: Floats) -> Fold:
    """Offsets and scales from 1/20 to 20."""
    random = np.random.default_rng(len(name))
    width = weight.shape[1]
    scale = random.permutation(np.geomspace(0.05, 20, width, dtype=np.float32))
    return Fold(random.standard_normal((width,)).astype(np.float32), scale)


@pytest.fixture
def source(model_folder: Path) -> Path:
    return model_folder / variant_path("fp32")


@pytest.fixture
def folded(source: Path) -> tuple[ir.Model, dict[str, Fold]]:
    model = load_graph(source)
    return model, fold(model.graph, random_fold)


def recorder(folder: Path, source: Path) -> Recorder:
    return Recorder(source, read_config(folder), IDS, products_of(load_graph(source).graph))


def test_the_folded_graph_computes_the_same(
    model_folder: Path, source: Path, folded: tuple[ir.Model, dict[str, Fold]]
) -> None:
    expected = pocketgpt.load(model_folder, "fp32").new_decoder().score(IDS[:60]).copy()
    model, folds = folded
    assert len(folds) == 2 * 3 + 1  # all but mlp.c_proj, behind the activation function
    np.testing.assert_allclose(logits(model_folder, model), expected, atol=2e-4)


def test_it_does_where_equal_vectors_are_stored_once(model_folder: Path, source: Path) -> None:
    """A checkpoint without biases has zeros for all of them: one initializer once exported."""
    expected = logits(model_folder, with_one_norm(source))
    model = with_one_norm(source)
    fold(model.graph, random_fold)
    np.testing.assert_allclose(logits(model_folder, model), expected, atol=2e-4)


def with_one_norm(source: Path) -> ir.Model:
    """Read a graph and let all of its norms share the first one's gain and bias."""
    model = load_graph(source)
    first, *others = (node for node in model.graph if node.op_type == "LayerNormalization")
    for norm in others:
        for place in (1, 2):
            norm.replace_input_with(place, first.inputs[place])
    return model


def logits(folder: Path, model: ir.Model) -> Floats:
    """Put a graph into a folder and run it."""
    save(model, folder / variant_path("int8"))
    entry = Variant(record_files(folder, "int8"), bits={})
    write_manifest(folder, read_manifest(folder).with_variant("int8", entry))
    found: Floats = pocketgpt.load(folder, "int8").new_decoder().score(IDS[:60]).copy()
    return found


def test_products_read_centered_scaled_inputs(
    model_folder: Path, source: Path, folded: tuple[ir.Model, dict[str, Fold]]
) -> None:
    """Recorded from the folded graph: what `Spread.folded` says of the original's."""
    model, folds = folded
    save(model, model_folder / "folded.onnx")
    before, after = (
        recorder(model_folder, source),
        recorder(model_folder, model_folder / "folded.onnx"),
    )
    names = [*folds]
    originals = before.spreads(names, whole=True)
    for name, found in after.spreads(names, whole=True).items():
        expected = originals[name].folded(folds[name])
        np.testing.assert_allclose(found.mean, expected.mean, atol=2e-3, rtol=1e-3)
        largest = np.abs(expected.variance).max()
        np.testing.assert_allclose(found.variance, expected.variance, atol=1e-3 * largest)


def test_a_balanced_product(source: Path) -> None:
    """Worked out by hand: deviations 1 and 16 against weights of 1 and 1."""
    weight = np.ones((5, 2), np.float32)
    found = balanced(np.array([3, -2], np.float32), np.array([1, 16], np.float32), weight)
    assert found.center.tolist() == [3, -2]
    np.testing.assert_allclose(found.scale, [0.5, 2], rtol=1e-6)


def test_a_channel_that_never_varies() -> None:
    weight = np.random.default_rng(0).standard_normal((4, 3)).astype(np.float32)
    for deviation in ([0, 1, 2], [0, 0, 0]):
        found = balanced(np.zeros(3, np.float32), np.array(deviation, np.float32), weight)
        assert np.isfinite(found.scale).all()
        assert (found.scale > 0).all()


def test_spreads_are_numpys(model_folder: Path, source: Path) -> None:
    """Mean, variance and covariance of the rows that the recorder hands out."""
    recording = recorder(model_folder, source)
    (name, *_) = products_of(load_graph(source).graph)[1:]
    rows = np.concatenate([chunk[name.weight] for chunk in recording.activations([name.weight])])
    whole = recording.spreads([name.weight], whole=True)[name.weight]
    flat = recording.spreads([name.weight])[name.weight]
    np.testing.assert_allclose(whole.mean, rows.mean(axis=0), atol=1e-5)
    np.testing.assert_allclose(whole.variance, np.cov(rows.T, bias=True), atol=1e-4)
    np.testing.assert_allclose(flat.variance, rows.var(axis=0), atol=1e-4)


def test_every_product_reads_a_row_for_every_token(model_folder: Path, source: Path) -> None:
    """The head's too, of which the graph computes only the last unless told otherwise."""
    recording = recorder(model_folder, source)
    names = [product.weight for product in products_of(load_graph(source).graph)]
    for chunk in recording.activations(names):
        assert {len(rows) for rows in chunk.values()} == {len(IDS)}


def test_a_mean_far_from_zero_does_not_drown_the_variance() -> None:
    shift, rows = np.float32(1e4), np.array([-1, 1, -2, 2], np.float32)
    found = Spread.of(np.array([shift]), rows[:2].mean(keepdims=True), np.array([2.5], np.float32))
    assert found.mean.tolist() == [1e4]
    assert found.variance.tolist() == [2.5]
