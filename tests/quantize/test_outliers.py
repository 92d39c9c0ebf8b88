"""A checkpoint equal in function to another, with channels up to 100 times larger inside."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from transformers import GPT2LMHeadModel

import pocketgpt
from pocketgpt.folder.manifest import read_manifest
from pocketgpt_export import export
from pocketgpt_quantize import quantize
from pocketgpt_quantize.recipes.registry import RECIPES

GROWN = ((3, 100.0), (17, 30.0), (40, 10.0))  # channels before a product, and how much they grow


def grow_outliers(checkpoint: Path, target: Path) -> None:
    """Copy a checkpoint, some channels of its LayerNorms larger and the weights behind smaller."""
    shutil.copytree(checkpoint, target)
    model = GPT2LMHeadModel.from_pretrained(checkpoint, dtype=torch.float32)
    with torch.no_grad():
        for layer, block in enumerate(model.transformer.h):
            for norm, product in ((block.ln_1, block.attn.c_attn), (block.ln_2, block.mlp.c_fc)):
                for channel, factor in GROWN:
                    norm.weight[channel + layer] *= factor
                    norm.bias[channel + layer] *= factor
                    product.weight[channel + layer] /= factor
    model.save_pretrained(target)


def check_gates(checkpoint: Path, folder: Path, graph: str) -> None:
    """Make the outlier checkpoint's variants; each has to keep inside its gate.

    `mixed`, which aims at its gate by another text, may miss it, and is then not installed.
    """
    grow_outliers(checkpoint, folder / "grown")
    export(folder / "grown", folder / graph, graph=graph)
    text = (checkpoint / "evaluation.txt").read_text("utf-8")[:8_000]
    (folder / "text.txt").write_text(text, "utf-8")
    names = [name for name, recipe in RECIPES.items() if recipe.graph == graph]
    reports = quantize(folder / graph, names, eval_text=folder / "text.txt")
    for report in reports:
        assert report.installed == (report.loss <= RECIPES[report.name].max_loss)
    installed = {report.name: report.installed for report in reports}
    known = read_manifest(folder / graph).variants
    assert installed == {name: name in known for name in names}
    assert all(there for name, there in installed.items() if name != "mixed"), installed


def test_the_function_is_the_same(exported: Path, tmp_path: Path) -> None:
    grow_outliers(exported.parent / "checkpoint", tmp_path / "grown")
    export(tmp_path / "grown", tmp_path / "folder")
    text = (exported / "evaluation.txt").read_text("utf-8")
    folders = (exported, tmp_path / "folder")
    before, after = (pocketgpt.load(folder, "fp32").score(text).perplexity for folder in folders)
    assert after == pytest.approx(before, rel=1e-5)


def test_every_variant_keeps_inside_its_gate(exported: Path, tmp_path: Path) -> None:
    check_gates(exported.parent / "checkpoint", tmp_path, "fused")


@pytest.mark.filterwarnings("ignore")  # the older tracer's own
def test_the_portable_graph_s_too(exported: Path, tmp_path: Path) -> None:
    pytest.importorskip("optimum.exporters.onnx")
    check_gates(exported.parent / "checkpoint", tmp_path, "portable")


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("graph", ["fused", "portable"])
def test_the_bundled_checkpoint_s(bundled_checkpoint: Path, tmp_path: Path, graph: str) -> None:
    if graph == "portable":
        pytest.importorskip("optimum.exporters.onnx")
    check_gates(bundled_checkpoint, tmp_path, graph)
