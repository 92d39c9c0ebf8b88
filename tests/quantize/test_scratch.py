"""What a graph calls its tensors never becomes a path."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import onnx_ir as ir
import pytest

from pocketgpt import QuantizationError
from pocketgpt.folder.manifest import read_manifest, record_files, write_manifest
from pocketgpt_quantize import quantize
from pocketgpt_quantize.graph.scratch import Scratch
from pocketgpt_quantize.recipes.registry import RECIPES

EVIL = ("../../../escaped/owned", "{root}/escaped/owned", "a/b", "..", "\n", "x" * 400)
FUSED = [name for name, recipe in RECIPES.items() if recipe.graph == "fused"]


def test_names_become_numbers(tmp_path: Path) -> None:
    scratch = Scratch(tmp_path)
    paths = [scratch.path(name) for name in (*EVIL, "\0", "")]
    assert [path.parent for path in paths] == [tmp_path] * len(paths)
    assert len(set(paths)) == len(paths)
    assert scratch.path(EVIL[0]) == paths[0]


@pytest.mark.parametrize("variant", FUSED)
def test_a_graph_cannot_name_a_file(model_folder: Path, tmp_path: Path, variant: str) -> None:
    """Weights of every kind are renamed, and the manifest stays true."""
    (tmp_path / "escaped").mkdir()
    path = model_folder / "onnx" / "model.onnx"
    model = ir.load(path)
    weights = [n for n in model.graph.initializers if n.endswith("weight")]
    renamed = dict(zip(weights, (name.format(root=tmp_path) for name in EVIL), strict=False))
    for old, new in renamed.items():
        value = model.graph.initializers.pop(old)
        value.name = new
        model.graph.initializers.add(value)
    for name, value in model.graph.initializers.items():
        assert value.const_value is not None
        value.const_value = ir.tensor(value.const_value.numpy().copy(), name=name)
    ir.save(model, path, external_data="model.onnx_data")
    manifest = read_manifest(model_folder)
    fp32 = manifest.variants["fp32"]
    bits = {renamed.get(name, name): bits for name, bits in fp32.bits.items()}
    bits = {name: bits for name, bits in bits.items() if name.isprintable()}
    entry = type(fp32)(record_files(model_folder, "fp32"), bits, fp32.quality)
    write_manifest(model_folder, manifest.with_variant("fp32", entry))
    before = {p for p in tmp_path.rglob("*") if not p.is_relative_to(model_folder)}
    with suppress(QuantizationError):
        quantize(model_folder, [variant], accept_loss=True)
    assert {p for p in tmp_path.rglob("*") if not p.is_relative_to(model_folder)} == before
    assert not Path(EVIL[0]).resolve().exists()
