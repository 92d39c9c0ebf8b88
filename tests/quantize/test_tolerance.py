"""What the manifest says logits may differ by, held against other text than it was measured on."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

import pocketgpt
from pocketgpt import Model
from pocketgpt.folder.manifest import read_manifest
from pocketgpt_quantize import quantize
from pocketgpt_quantize.measure.tolerance import cut, measure_tolerance
from pocketgpt_quantize.recipes.registry import RECIPES

FUSED = [name for name, recipe in RECIPES.items() if recipe.graph == "fused"]


@pytest.fixture(scope="module")
def quantized(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every variant of a random model: near ties everywhere, and layers that amplify."""
    folder = Path(shutil.copytree(tiny_folder, tmp_path_factory.mktemp("tolerance") / "tiny"))
    text = folder / "calibration.txt"  # of which `mixed` measures on a quarter
    text.write_text(2 * text.read_text("utf-8"), "utf-8")
    quantize(folder, FUSED, accept_loss=True)
    return folder


def stepped(model: Model, rows: list[list[int]]) -> np.ndarray:
    """Return the logits `[rows, tokens, vocab_size]`, computed a token of every row at a time."""
    decoder = model.new_decoder(len(rows))
    return np.stack([decoder.step(t).copy() for t in zip(*rows, strict=True)], axis=1)


def ways(model: Model, rows: np.ndarray) -> dict[str, np.ndarray]:
    """Return the logits after every token of every row, in each way there is to compute them."""
    one_shot = np.stack([model.new_decoder().score(row).copy() for row in rows.tolist()])
    chunks = []
    for row in rows.tolist():
        decoder = model.new_decoder()
        chunks.append(
            np.concatenate([decoder.score(row[s : s + 5]).copy() for s in (0, 5, 10, 15)])
        )
    cached = np.concatenate([stepped(model, [row]) for row in rows.tolist()])
    lengths = (4, 9, 20, 13)
    decoder = model.new_decoder(len(rows))
    ragged = decoder.fill([r[:n] for r, n in zip(rows.tolist(), lengths, strict=True)])
    batched = one_shot.copy()
    for index, length in enumerate(lengths):
        batched[index, length - 1] = ragged[index]
    return {
        "one_shot": one_shot,
        "chunked": np.stack(chunks),
        "cached": cached,
        "batched": stepped(model, rows.tolist()),
        "ragged": batched,
    }


@pytest.mark.parametrize("variant", FUSED)
def test_logits_and_greedy_tokens_keep_within_it(quantized: Path, variant: str) -> None:
    tolerance = read_manifest(quantized).variants[variant].tolerance
    assert tolerance is not None
    model = pocketgpt.load(quantized, variant)
    rows = np.random.default_rng(5).integers(0, model.config.vocab_size, (4, 20))
    found = ways(model, rows)
    expected = found.pop("one_shot")
    ordered = np.sort(expected, axis=-1)
    margin = ordered[..., -1] - ordered[..., -2]
    for way, logits in found.items():
        assert np.abs(logits - expected).max() <= tolerance, way
        other = logits.argmax(-1) != expected.argmax(-1)
        assert (margin[other] <= tolerance).all(), way


def test_fp32_has_none(quantized: Path) -> None:
    assert read_manifest(quantized).variants["fp32"].tolerance is None


def test_it_is_twice_the_largest_difference(quantized: Path) -> None:
    model = pocketgpt.load(quantized, "int8")
    row = np.random.default_rng(6).integers(0, model.config.vocab_size, 11).tolist()
    whole, steps = model.new_decoder().score(row).copy(), stepped(model, [row])[0]
    assert measure_tolerance(model.graph, row) == pytest.approx(2 * np.abs(whole - steps).max())


def test_windows() -> None:
    assert cut(range(100), 10)[0] == range(10)
    assert cut(range(100), 10)[-1] == range(90, 100)
    assert len(cut(range(100), 10)) == 8
    assert cut(range(5), 10) == [range(5)]
