"""Classifiers' variants: what of a text's label is left, and what the gate makes of it."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest

import pocketgpt
from pocketgpt import OptionError, QuantizationError
from pocketgpt.folder.config import read_config
from pocketgpt.folder.labels import Labels
from pocketgpt.folder.manifest import read_manifest
from pocketgpt.text.tokenizer import Tokenizer
from pocketgpt_export import export
from pocketgpt_quantize import quantize
from pocketgpt_quantize.measure.labels import TextSet, label_figures

from ..conftest import SENTENCES, Cli

NAMES = ("no", "yes")
WORDS = " ".join(SENTENCES).split()


def texts_of(first: int, count: int) -> str:
    """A text a line, of one to twelve words, some of them twice the context long."""
    lines = [
        " ".join(WORDS[(first + 7 * i + j) % len(WORDS)] for j in range(1 + i % 12))
        for i in range(count - 1)
    ]
    return "\n".join([*lines, " ".join(WORDS * 3)]) + "\n\n"


@pytest.fixture
def folder(classifier_folder: Path, tmp_path: Path) -> Path:
    """A copy of `classifier_folder` with texts of its own."""
    copied = Path(shutil.copytree(classifier_folder, tmp_path / "classifier"))
    (tmp_path / "texts.txt").write_text(texts_of(0, 60), "utf-8")
    (tmp_path / "calibration.txt").write_text(texts_of(3, 60), "utf-8")
    return copied


def texts_beside(folder: Path) -> dict[str, Any]:
    return {
        "eval_text": folder.with_name("texts.txt"),
        "calibration_text": folder.with_name("calibration.txt"),
    }


def test_a_distribution_of_labels_by_hand() -> None:
    """From (1/4, 3/4) to (1/2, 1/2), and from 3/4 to 1/2 of one label."""
    expected = 1 / 4 * math.log(1 / 2) + 3 / 4 * math.log(3 / 2)
    zero = np.zeros((2, 2), np.float32)
    found = label_figures(np.array([[0, math.log(3)]] * 2, np.float32), zero, Labels(NAMES))
    assert found["kl_mean"] == pytest.approx(expected)
    assert found["loss"] == pytest.approx(math.exp(expected) - 1)
    assert found["label_agreement"] == 0  # argmax of equal ones is the first
    assert found["texts"] == 2
    one = np.array([[math.log(3)], [math.log(3)]], np.float32)
    found = label_figures(one, zero[:, :1], Labels(("a",)))
    assert found["kl_mean"] == pytest.approx(expected)
    both = Labels(NAMES, "multi_label_classification")
    several = np.array([[math.log(3), -1.0], [2.0, -3.0]], np.float32)
    other = np.array([[0.5, 1.0], [2.0, -2.0]], np.float32)
    assert label_figures(several, other, both)["label_agreement"] == 3 / 4


def test_a_regression_by_hand() -> None:
    """0 and 2 vary by 1 around 1: off by 0.1, 0.01 of that is lost, and 0.01 / 2 diverges."""
    values = np.array([[0.0], [2.0]], np.float32)
    found = label_figures(values, values + 0.1, Labels(("x",), "regression"))
    assert found["kl_mean"] == pytest.approx(0.005, rel=1e-4)
    assert found["r2"] == pytest.approx(0.99, rel=1e-6)
    assert "label_agreement" not in found


@pytest.mark.parametrize("problem_type", [None, "multi_label_classification", "regression"])
def test_a_model_agrees_with_itself(problem_type: str | None) -> None:
    logits = np.random.default_rng(0).normal(size=(50, 2)).astype(np.float32)
    found = label_figures(logits, logits, Labels(NAMES, problem_type))
    name = "r2" if problem_type == "regression" else "label_agreement"
    assert found == {name: 1, "kl_mean": 0, "kl_p99": 0, "loss": 0, "texts": 50}


@pytest.mark.parametrize("problem_type", [None, "multi_label_classification", "regression"])
def test_figures_of_the_worst_are_finite(problem_type: str | None) -> None:
    logits = np.array([[9e4, -9e4], [9e4, -9e4]], np.float32)
    found = label_figures(logits, -logits, Labels(NAMES, problem_type))
    assert all(math.isfinite(value) for value in found.values())


def test_figures_are_those_of_the_variants_answers(folder: Path) -> None:
    variants = ["int8", "q4", "q8", "fp16", "q4f16"]
    reports = quantize(folder, variants, accept_loss=True, **texts_beside(folder))
    lines = texts_of(0, 60).split("\n")[:-2]
    fp32 = pocketgpt.load(folder, "fp32").classify(lines, truncation=True)
    assert read_manifest(folder).variants["fp32"].quality == {
        "label_agreement": 1,
        "kl_mean": 0,
        "kl_p99": 0,
        "loss": 0,
        "texts": 60,
    }
    for report in reports:
        found = pocketgpt.load(folder, report.name).classify(lines, truncation=True)
        same = [one.label == other.label for one, other in zip(fp32, found, strict=True)]
        quality = report.variant.quality
        assert quality["label_agreement"] == pytest.approx(sum(same) / 60)
        divergences = [
            sum(
                p * math.log(p / other.probabilities[name]) for name, p in one.probabilities.items()
            )
            for one, other in zip(fp32, found, strict=True)
        ]
        assert quality["kl_mean"] == pytest.approx(sum(divergences) / 60, rel=1e-3, abs=1e-6)
        assert quality["texts"] == 60
        assert report.variant.tolerance is not None
    by_name = {report.name: report.variant for report in reports}
    assert by_name["int8"].quality["kl_mean"] < by_name["q4"].quality["kl_mean"]
    assert by_name["int8"].method == by_name["q4"].method == "gptq"


def test_the_head_stays_as_it_is(folder: Path) -> None:
    quantize(folder, ["int8", "q4"], accept_loss=True, **texts_beside(folder))
    stored = [
        ir.load(folder / "onnx" / name).graph.initializers["score.weight"].const_value
        for name in ("model.onnx", "model_int8.onnx", "model_q4.onnx")
    ]
    fp32, *others = [tensor.numpy() for tensor in stored if tensor is not None]
    for other in others:
        np.testing.assert_array_equal(other, fp32)
    bits = read_manifest(folder).variants["q4"].bits
    assert bits["score.weight"] == 32
    assert bits["transformer.h.0.mlp.c_fc.weight"] == 4


def test_a_variant_that_changes_labels_is_not_installed(folder: Path) -> None:
    reports = {r.name: r for r in quantize(folder, ["q4", "fp16"], **texts_beside(folder))}
    assert not reports["q4"].installed
    assert reports["q4"].variant.quality["label_agreement"] < 0.98
    assert reports["q4"].verdict.endswith(": not installed")
    assert reports["fp16"].installed
    assert reports["fp16"].verdict.startswith("fp16: 100.0% of labels are the same on 60 texts")
    assert set(read_manifest(folder).variants) == {"fp32", "fp16"}
    # A generous loss does not lift what labels are held to; leave does, and the manifest says so.
    (report,) = quantize(folder, ["q4"], max_loss=9.0, **texts_beside(folder))
    assert not report.installed
    (report,) = quantize(folder, ["q4"], accept_loss=True, **texts_beside(folder))
    assert report.installed
    assert report.verdict.endswith(": installed all the same on request")
    assert read_manifest(folder).variants["q4"].loss_accepted


@pytest.mark.parametrize(
    ("fields", "figure"),
    [
        ({"num_labels": 1, "problem_type": "regression"}, "r2"),
        ({"num_labels": 4, "problem_type": "multi_label_classification"}, "label_agreement"),
    ],
)
def test_other_classifiers_are_measured(
    make_classifier: Callable[..., Path], tmp_path: Path, fields: dict[str, Any], figure: str
) -> None:
    export(make_classifier(**fields), tmp_path / "folder")
    (report,) = quantize(tmp_path / "folder", ["int8"], accept_loss=True)
    assert 0.8 < report.variant.quality[figure] <= 1
    assert pocketgpt.load(tmp_path / "folder").variant == "int8"


def test_the_portable_graph_has_its_variant(
    classifier_checkpoint: Path, tmp_path: Path, folder: Path
) -> None:
    export(classifier_checkpoint, tmp_path / "portable", graph="portable")
    texts = texts_beside(folder)
    (report,) = quantize(tmp_path / "portable", ["int8_static"], accept_loss=True, **texts)
    assert report.variant.quality["label_agreement"] > 0.9
    model = pocketgpt.load(tmp_path / "portable", "int8_static")
    assert model.classify("The wind will turn.").label in model.classify("a").probabilities


def test_a_text_has_to_be_there_and_long_enough(folder: Path) -> None:
    (folder / "evaluation.txt").unlink()
    with pytest.raises(QuantizationError, match="quality is always measured"):
        quantize(folder, ["int8"])
    short = folder.with_name("short.txt")
    short.write_text("one\n\n  \ntwo\n", "utf-8")
    with pytest.raises(QuantizationError, match="a text a line, and of 2 lines are too few"):
        quantize(folder, ["int8"], eval_text=short)


def test_lines_are_texts(classifier_folder: Path) -> None:
    config = read_config(classifier_folder)
    tokenizer = Tokenizer(classifier_folder / "tokenizer.json", config.vocab_size)
    content = "\r\n".join([*"abcdefg", " ", "", " ships" * 200])
    found = TextSet.of(content, tokenizer, config)
    assert [len(text) for text in found.texts] == [1] * 7 + [96]
    assert found.token_ids[:7] == [tokenizer.encode(letter)[0] for letter in "abcdefg"]


def test_what_goes_by_a_texts_perplexity_is_refused(folder: Path) -> None:
    with pytest.raises(QuantizationError, match="a classifier has none; make int8 or q4"):
        quantize(folder, ["mixed"], **texts_beside(folder))
    with pytest.raises(OptionError, match="no variant is called"):
        quantize(folder, ["q3"])


def test_the_command_line_shows_labels(cli: Cli, folder: Path) -> None:
    texts = texts_beside(folder)
    flags = ["--eval-text", texts["eval_text"], "--calibration-text", texts["calibration_text"]]
    plot = folder.with_name("plot.svg")
    code, text, errors = cli("quantize", folder, "fp16", *flags, "--plot", plot)
    assert code == 0
    assert "labels" in text
    assert "100.0%" in text
    assert "perplexity" not in text
    assert "fp16: 100.0% of labels are the same on 60 texts (98% at least)" in errors
    assert plot.stat().st_size > 0
    _, text, _ = cli("inspect", folder, "--json")
    assert json.loads(text)["variants"]["fp16"]["quality"]["label_agreement"] == 1
