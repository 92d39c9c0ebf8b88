"""A checkpoint equal in function to a trained one, with channels up to 100 times larger inside."""

from __future__ import annotations

from pathlib import Path

import pytest

import pocketgpt
from pocketgpt.manifest import read_manifest
from pocketgpt_quantize import quantize
from pocketgpt_quantize.variants import RECIPES

FUSED = [name for name, recipe in RECIPES.items() if recipe.graph == "fused"]


def test_the_function_is_the_same(exported: Path, outlier_folder: Path) -> None:
    text = (exported / "evaluation.txt").read_text("utf-8")
    scores = [pocketgpt.load(folder, "fp32").score(text) for folder in (exported, outlier_folder)]
    assert scores[1].perplexity == pytest.approx(scores[0].perplexity, rel=1e-5)


def test_every_variant_keeps_inside_its_gate_or_out_of_the_folder(outlier_folder: Path) -> None:
    reports = quantize(outlier_folder, FUSED)
    installed = read_manifest(outlier_folder).variants
    for report in reports:
        assert report.installed == (report.loss <= RECIPES[report.name].max_loss)
        assert (report.name in installed) == report.installed
    by_name = {report.name: report for report in reports}
    assert all(by_name[name].installed for name in ("int8", "q8", "fp16", "q4", "q4f16"))
