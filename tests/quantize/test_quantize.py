"""`quantize`: all variants or none, and what bad input gets."""

from __future__ import annotations

import importlib
import json
import shutil
from pathlib import Path
from typing import Any

import pytest

import pocketgpt
from pocketgpt import ModelFolderError, OptionError, QuantizationError
from pocketgpt.folder.file_record import sha256
from pocketgpt.folder.manifest import read_manifest
from pocketgpt_quantize import quantize

from ..conftest import contents


def forget(folder: Path, *variants: str) -> None:
    """Take variants out of a folder."""
    path = folder / "pocketgpt.json"
    fields = json.loads(path.read_text("utf-8"))
    for name in variants:
        for record in fields["variants"].pop(name)["files"]:
            (folder / record["path"]).unlink()
    path.write_text(json.dumps(fields), "utf-8")


def test_adds_one_and_keeps_the_others(tiny_copy: Path, tiny_folder: Path) -> None:
    forget(tiny_copy, "q4")
    quantize(tiny_copy, ["q4"], accept_loss=True)
    manifest = read_manifest(tiny_copy)
    assert list(manifest.variants) == ["fp32", "int8", "q4"]
    assert {k: v for k, v in contents(tiny_copy).items() if k.startswith("onnx")} == {
        k: v for k, v in contents(tiny_folder).items() if k.startswith("onnx")
    }
    config = json.loads((tiny_copy / "config.json").read_text("utf-8"))
    external = config["transformers.js_config"]["use_external_data_format"]
    assert set(external) == {"model.onnx", "model_int8.onnx", "model_q4.onnx"}


def test_making_a_variant_again_replaces_it(tiny_copy: Path, tiny_folder: Path) -> None:
    """A damaged one becomes whole; the same comes out every time."""
    (tiny_copy / "onnx" / "model_int8.onnx_data").write_bytes(b"damaged")
    reports = quantize(tiny_copy, ["int8", "int8"], accept_loss=True)
    assert [report.name for report in reports] == ["int8"]
    manifest = read_manifest(tiny_copy)
    assert list(manifest.variants) == ["fp32", "int8", "q4"]
    assert pocketgpt.load(tiny_copy, "int8", verify=True).variant == "int8"
    assert contents(tiny_copy).keys() == contents(tiny_folder).keys()
    name = "onnx/model_int8.onnx_data"
    assert contents(tiny_copy)[name] == contents(tiny_folder)[name]


def test_another_text_to_measure_on(tiny_copy: Path, tmp_path: Path) -> None:
    """Then every figure in the manifest is of the text that its variant names."""
    other = tmp_path / "other.txt"
    other.write_text(8 * "Quite another text, 灯台守, to measure on. ", "utf-8")
    (report,) = quantize(tiny_copy, ["q4"], eval_text=other, accept_loss=True)
    manifest = read_manifest(tiny_copy)
    assert manifest.evaluation_sha256 == sha256(other)
    assert manifest.variants["q4"] == report.variant
    on = {name: variant.evaluation_sha256 for name, variant in manifest.variants.items()}
    old = sha256(tiny_copy / "evaluation.txt")
    assert on == {"fp32": sha256(other), "int8": old, "q4": sha256(other)}
    for name, variant in manifest.variants.items():
        text = other if on[name] == sha256(other) else tiny_copy / "evaluation.txt"
        score = pocketgpt.load(tiny_copy, name, kv_cache="float").score(text.read_text("utf-8"))
        assert variant.quality["perplexity"] == pytest.approx(score.perplexity, rel=1e-5), name


def as_portable(manifest: Path) -> dict[str, Any]:
    """Return a manifest's fields that say portable: no variant has an 8-bit cache then."""
    fields: dict[str, Any] = json.loads(manifest.read_text("utf-8"))
    for variant in fields["variants"].values():
        variant["int8_cache"] = None
    return fields | {"graph": "portable"}


def test_portable_graph(tiny_copy: Path) -> None:
    path = tiny_copy / "pocketgpt.json"
    path.write_text(json.dumps(as_portable(path)), "utf-8")
    before = contents(tiny_copy)
    with pytest.raises(QuantizationError, match="int8 is made from a fused one") as caught:
        quantize(tiny_copy, ["int8"])
    assert "\n" not in str(caught.value)
    assert contents(tiny_copy) == before


@pytest.mark.parametrize("variant", ["int8", "q4", "fp16"])
def test_heads_of_a_width_that_no_fused_graph_takes(tiny_copy: Path, variant: str) -> None:
    """Nobody is sent to an export that would send back."""
    manifest, config = tiny_copy / "pocketgpt.json", tiny_copy / "config.json"
    fields = json.loads(config.read_text("utf-8")) | {"n_head": 32}
    for path, changed in ((manifest, as_portable(manifest)), (config, fields)):
        path.write_text(json.dumps(changed), "utf-8")
    with pytest.raises(QuantizationError, match=r"heads of 4, .* can be int8_static") as caught:
        quantize(tiny_copy, [variant])
    assert "--graph" not in str(caught.value)
    with pytest.raises(OptionError, match=r"heads of 4, .*merge the adapter, export --base"):
        pocketgpt.load(tiny_copy, "fp32", adapters={"any": tiny_copy})


@pytest.mark.parametrize("variants", [["q3"], ["int8", "fp64"], [""], ["fp32"]])
def test_unknown_variant(tiny_copy: Path, variants: list[str]) -> None:
    before = contents(tiny_copy.parent)
    with pytest.raises(OptionError, match=r"no variant is called '.*'; there are int8, q4"):
        quantize(tiny_copy, variants)
    assert contents(tiny_copy.parent) == before


def test_no_text_to_measure_on(tiny_copy: Path, tmp_path: Path) -> None:
    (tiny_copy / "evaluation.txt").unlink()
    before = contents(tiny_copy)
    with pytest.raises(QuantizationError, match=r"evaluation\.txt is missing, and quality is"):
        quantize(tiny_copy, ["int8"])
    with pytest.raises(QuantizationError, match=r"other\.txt is missing, and quality is"):
        quantize(tiny_copy, ["int8"], eval_text=tmp_path / "other.txt")
    assert contents(tiny_copy) == before


def test_text_that_is_not_utf8(tiny_copy: Path) -> None:
    (tiny_copy / "evaluation.txt").write_bytes(b"caf\xe9, in Latin-1")
    with pytest.raises(QuantizationError, match="cannot be read as UTF-8 text") as caught:
        quantize(tiny_copy, ["int8"])
    assert "\n" not in str(caught.value)


def test_text_of_one_token(tiny_copy: Path) -> None:
    before = contents(tiny_copy)
    (tiny_copy / "evaluation.txt").write_text("Q", "utf-8")
    with pytest.raises(QuantizationError, match="a text of 1 tokens is too short"):
        quantize(tiny_copy, ["int8"])
    (tiny_copy / "evaluation.txt").write_bytes(before["evaluation.txt"])
    assert contents(tiny_copy) == before


@pytest.mark.parametrize("error", [QuantizationError("wrong"), KeyboardInterrupt()], ids=repr)
@pytest.mark.parametrize(
    "failing", ["measure.quality:Reference", "recipes.int8_q4:quantize_blockwise"]
)
def test_a_failure_changes_nothing(
    tiny_copy: Path, monkeypatch: pytest.MonkeyPatch, failing: str, error: BaseException
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    before = contents(tiny_copy.parent)
    module, _, name = failing.partition(":")
    monkeypatch.setattr(importlib.import_module(f"pocketgpt_quantize.{module}"), name, fail)
    with pytest.raises(type(error)):
        quantize(tiny_copy, ["int8", "q4"])
    assert contents(tiny_copy.parent) == before
    assert list(tiny_copy.rglob(".*")) == []


@pytest.mark.parametrize("name", ["onnx/model.onnx", "onnx/model.onnx_data", "pocketgpt.json"])
def test_damaged_folder(tiny_copy: Path, name: str) -> None:
    (tiny_copy / name).unlink()
    with pytest.raises(ModelFolderError, match=Path(name).name):
        quantize(tiny_copy, ["int8"])


def test_folder_that_is_a_checkpoint(checkpoint_copy: Path) -> None:
    before = contents(checkpoint_copy)
    with pytest.raises(ModelFolderError, match=r"has no pocketgpt\.json"):
        quantize(checkpoint_copy, ["int8"])
    assert contents(checkpoint_copy) == before


def test_graph_that_pocketgpt_did_not_write(tiny_copy: Path) -> None:
    """A quantized one in fp32's place, its manifest true."""
    for ending in ("", "_data"):
        source = tiny_copy / "onnx" / f"model_q4.onnx{ending}"
        shutil.copyfile(source, tiny_copy / "onnx" / f"model.onnx{ending}")
    path = tiny_copy / "pocketgpt.json"
    fields = json.loads(path.read_text("utf-8"))
    for record in fields["variants"]["fp32"]["files"]:
        record["bytes"] = (tiny_copy / record["path"]).stat().st_size
        record["sha256"] = sha256(tiny_copy / record["path"])
    path.write_text(json.dumps(fields), "utf-8")
    with pytest.raises(QuantizationError, match="has no products to quantize; export the model"):
        quantize(tiny_copy, ["int8"])


def test_progress_finishes_every_step(tiny_copy: Path) -> None:
    reports: list[tuple[str, int, int]] = []
    quantize(
        tiny_copy,
        ["int8", "q4"],
        accept_loss=True,
        progress=lambda *report: reports.append(report),
    )
    steps = list(dict.fromkeys(name for name, _, _ in reports))
    assert steps == [
        "quantizing to int8",
        "quantizing to q4",
        "measuring, with up to 0.1 GB of disk",
        "measuring fp32",
        "measuring int8",
        "measuring q4",
        "measuring fp32 with an 8-bit cache",
        "measuring int8 with an 8-bit cache",
        "measuring q4 with an 8-bit cache",
        "chunking fp32 with an 8-bit cache",
        "chunking int8",
        "chunking int8 with an 8-bit cache",
        "chunking q4",
        "chunking q4 with an 8-bit cache",
    ]
    for name in steps:
        done, total = [report[1:] for report in reports if report[0] == name][-1]
        assert done == total > 0
