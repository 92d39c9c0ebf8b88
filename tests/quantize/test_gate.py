"""The gate, the texts, the figures: what gets into a folder, what the manifest says of it."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import pocketgpt
from pocketgpt import OptionError, QuantizationError
from pocketgpt.folder.manifest import read_manifest
from pocketgpt.folder.verification import verify_files
from pocketgpt_quantize import quantize
from pocketgpt_quantize.measure import quality
from pocketgpt_quantize.measure.quality import Passage, common_prefix, measure, top_overlap

from ..conftest import Cli, contents
from .conftest import FIGURES


def test_a_variant_within_its_gate_is_installed(model_folder: Path) -> None:
    (report,) = quantize(model_folder, ["int8"], max_loss=0.05)
    assert report.installed
    entry = read_manifest(model_folder).variants["int8"]
    assert entry == report.variant
    assert set(entry.quality) == FIGURES
    assert entry.max_loss == 0.05
    assert not entry.loss_accepted
    text = (model_folder / "evaluation.txt").read_bytes()
    assert entry.evaluation_sha256 == hashlib.sha256(text).hexdigest()
    calibration = (model_folder / "calibration.txt").read_bytes()
    assert entry.calibration_sha256 == hashlib.sha256(calibration).hexdigest()
    assert pocketgpt.load(model_folder, "int8", verify=True).generate("the king").text


def test_int8_does_without_a_calibration_text(model_folder: Path) -> None:
    (model_folder / "calibration.txt").unlink()
    (report,) = quantize(model_folder, ["int8"])
    assert report.installed
    assert (report.variant.method, report.variant.calibration_sha256) == ("rtn", None)
    with pytest.raises(QuantizationError, match="this variant is calibrated"):
        quantize(model_folder, ["int8", "q4"])


def test_the_manifest_names_the_calibration_text(model_folder: Path) -> None:
    (report,) = quantize(model_folder, ["q4"], max_loss=1.0)
    text = (model_folder / "calibration.txt").read_bytes()
    assert report.variant.calibration_sha256 == hashlib.sha256(text).hexdigest()
    assert report.variant.method == "gptq"


@pytest.fixture
def losing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every variant loses a percent more than it does: the small model itself hardly loses any."""
    measured = quality.figures

    def worse(name: str, *arguments: Any) -> dict[str, float]:
        figures = measured(name, *arguments)
        return {**figures, "loss": figures["loss"] + 0.01 * (name != "fp32")}

    monkeypatch.setattr(quality, "figures", worse)


@pytest.mark.usefixtures("losing")
def test_a_variant_over_the_gate_is_refused(model_folder: Path) -> None:
    before = contents(model_folder / "onnx")
    (report,) = quantize(model_folder, ["q4"], max_loss=0)
    assert report.loss > 0
    assert not report.installed
    assert "not installed" in report.verdict
    assert "q4" not in read_manifest(model_folder).variants
    after = contents(model_folder / "onnx")
    after.pop("model_int8_cache.onnx")  # fp32's: it is made with whatever is
    assert after == before


@pytest.mark.usefixtures("losing")
def test_an_accepted_loss_is_recorded(model_folder: Path) -> None:
    (report,) = quantize(model_folder, ["q4"], max_loss=0, accept_loss=True)
    assert report.installed
    assert read_manifest(model_folder).variants["q4"].loss_accepted


@pytest.mark.usefixtures("losing")
def test_an_older_variant_outlives_a_refused_one(model_folder: Path) -> None:
    quantize(model_folder, ["q4"], max_loss=1.0)
    kept = read_manifest(model_folder).variants["q4"]
    quantize(model_folder, ["q4", "int8"], max_loss=0)
    quantize(model_folder, ["q4", "int8"], max_loss=0)
    assert read_manifest(model_folder).variants["q4"] == kept
    assert not verify_files(model_folder).failures


def test_fp32_agrees_with_itself(model_folder: Path, tmp_path: Path) -> None:
    text = (model_folder / "evaluation.txt").read_text("utf-8")
    model = pocketgpt.load(model_folder, "fp32")
    passage = Passage.of(text, model.tokenizer, model.config)
    found = measure(passage, lambda: model.graph, {"same": lambda: model.graph}, tmp_path)
    assert found["same"] == pytest.approx(found["fp32"], abs=1e-6)
    score = model.score(text)
    assert found["fp32"]["perplexity"] == pytest.approx(score.perplexity)
    assert found["fp32"]["bits_per_byte"] == pytest.approx(score.bits_per_byte)


def test_common_prefix() -> None:
    assert common_prefix([1, 2, 3], [1, 2, 4]) == 2
    assert common_prefix([1, 2], [1, 2]) == 2
    assert common_prefix([5], [1]) == 0


def test_top_overlap() -> None:
    expected = np.array([[5, 4, 3, 0, 0]], np.float32)
    actual = np.array([[3, 0, 5, 4, 0]], np.float32)
    assert top_overlap(expected, actual, 3).tolist() == [pytest.approx(2 / 3)]


@pytest.mark.parametrize(
    ("content", "complaint"),
    [(b"", "0 tokens"), (b"the king", "too short"), (b"\xff\xfe", "UTF-8"), (None, "missing")],
)
def test_an_unusable_evaluation_text(
    model_folder: Path, tmp_path: Path, content: bytes | None, complaint: str
) -> None:
    path = tmp_path / "text.txt"
    if content is not None:
        path.write_bytes(content)
    before = contents(model_folder)
    with pytest.raises(QuantizationError, match=complaint):
        quantize(model_folder, ["int8"], eval_text=path)
    assert contents(model_folder) == before


def test_one_text_cannot_serve_as_both(model_folder: Path) -> None:
    copy = model_folder.parent / "copy.txt"
    shutil.copyfile(model_folder / "evaluation.txt", copy)
    with pytest.raises(QuantizationError, match="cannot calibrate"):
        quantize(model_folder, ["q4"], calibration_text=copy)


def test_a_short_calibration_text(model_folder: Path) -> None:
    (model_folder / "calibration.txt").write_text("the king", "utf-8")
    with pytest.raises(QuantizationError, match="calibration text of 3 tokens is too short"):
        quantize(model_folder, ["q4"])


@pytest.mark.parametrize("max_loss", [-0.1, float("nan"), float("inf")])
def test_max_loss_out_of_range(model_folder: Path, max_loss: float) -> None:
    with pytest.raises(OptionError, match="max_loss"):
        quantize(model_folder, ["int8"], max_loss=max_loss)


def test_a_full_disk(model_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*arguments: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pocketgpt_quantize.measure.quality.np.save", full)
    before = contents(model_folder)
    with pytest.raises(QuantizationError, match="No space left"):
        quantize(model_folder, ["int8"])
    assert contents(model_folder) == before


@pytest.mark.usefixtures("losing")
def test_command_line_gate(cli: Cli, model_folder: Path) -> None:
    run = cli("quantize", model_folder, "q4", "--max-loss", "0%")
    assert run.returncode == 1
    assert "not installed" in run.stderr
    assert "q4" in run.stdout


def test_command_line_json_and_plot(cli: Cli, model_folder: Path, tmp_path: Path) -> None:
    picture = tmp_path / "plot.svg"
    arguments = ["--accept-loss", "--json", "--plot", picture]
    run = cli("quantize", model_folder, "int8", *arguments)
    assert run.returncode == 0
    (report,) = json.loads(run.stdout)
    assert report["name"] == "int8"
    assert report["installed"] is True
    assert "<svg" in picture.read_text("utf-8")


def test_command_line_bad_shares_and_plots(cli: Cli, model_folder: Path) -> None:
    for arguments, says in (
        (["--max-loss", "some"], "--max-loss should look like"),
        (["--max-loss", "1e999"], "--max-loss should look like"),
        (["--plot", "picture.txt"], "picture"),
    ):
        run = cli("quantize", model_folder, "int8", *arguments)
        assert (run.returncode, run.stdout) == (2, "")
        assert says in run.stderr
