"""What an export writes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from transformers import GenerationConfig, GPT2Config, GPT2TokenizerFast

import pocketgpt
from pocketgpt.folder.file_record import sha256
from pocketgpt.folder.manifest import read_manifest
from pocketgpt.folder.neighbours import NEIGHBOURS
from pocketgpt_export.graph.trace import MIN_ONNXRUNTIME, OPSET

from .conftest import CHECKS

TEXTS = {"evaluation.txt", "calibration.txt"}
VARIANTS = {"fp32": "model", "int8": "model_int8", "q4": "model_q4"}


@pytest.fixture(scope="module")
def manifest(tiny_folder: Path) -> dict[str, Any]:
    fields: dict[str, Any] = json.loads((tiny_folder / "pocketgpt.json").read_text("utf-8"))
    return fields


def test_layout(tiny_folder: Path) -> None:
    found = {path.relative_to(tiny_folder).as_posix() for path in tiny_folder.rglob("*")}
    expected = {"config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json"}
    expected |= TEXTS | {"pocketgpt.json", "onnx", *NEIGHBOURS}
    for stem in VARIANTS.values():
        expected |= {f"onnx/{stem}.onnx", f"onnx/{stem}.onnx_data", f"onnx/{stem}_int8_cache.onnx"}
    assert found == expected


def test_nothing_is_left_beside(tiny_folder: Path) -> None:
    assert [path.name for path in tiny_folder.parent.iterdir()] == ["tiny"]


def test_everyone_may_read_it(tiny_folder: Path) -> None:
    for path in [tiny_folder, *tiny_folder.rglob("*")]:
        assert path.stat().st_mode & 0o444 == 0o444, path


@pytest.mark.parametrize("name", sorted(TEXTS))
def test_texts_are_copied(tiny_checkpoint: Path, tiny_folder: Path, name: str) -> None:
    assert (tiny_folder / name).read_bytes() == (tiny_checkpoint / name).read_bytes()


def test_config_keeps_the_checkpoints(tiny_checkpoint: Path, tiny_folder: Path) -> None:
    """transformers reads the same configuration from both, and other runtimes find theirs."""
    fields = json.loads((tiny_folder / "config.json").read_text("utf-8"))
    external = {f"{stem}.onnx": True for stem in VARIANTS.values()}
    assert fields["transformers.js_config"]["use_external_data_format"] == external
    assert fields["model_type"] == "gpt2"
    assert fields["use_cache"] is True
    before = GPT2Config.from_pretrained(tiny_checkpoint).to_dict()
    after = GPT2Config.from_pretrained(tiny_folder).to_dict()
    # What saving notes down about the program and the weights' type, and the line added above.
    noted = {"transformers_version", "_name_or_path", "dtype", "transformers.js_config"}
    differing = {key for key in before | after if before.get(key) != after.get(key)}
    assert differing <= noted


def test_generation_config_is_the_checkpoints(tiny_checkpoint: Path, tiny_folder: Path) -> None:
    before = (tiny_checkpoint / "generation_config.json").read_bytes()
    assert (tiny_folder / "generation_config.json").read_bytes() == before
    assert GenerationConfig.from_pretrained(tiny_folder).eos_token_id == 0


def test_transformers_reads_the_tokenizer(tiny_folder: Path, tiny: pocketgpt.Model) -> None:
    tokenizer = GPT2TokenizerFast.from_pretrained(tiny_folder)
    text = "The ship 💃 came<|endoftext|>home"
    assert tokenizer.encode(text) == tiny.tokenizer.encode(text)
    assert tokenizer.eos_token == "<|endoftext|>"


def test_manifest(manifest: dict[str, Any], tiny_checkpoint: Path, tiny_folder: Path) -> None:
    assert manifest["format_version"] == 1
    assert manifest["producer"] == f"pocketgpt {pocketgpt.__version__}"
    assert manifest["source"] == str(tiny_checkpoint)
    assert (manifest["graph"], manifest["opset"]) == ("fused", OPSET)
    assert manifest["min_onnxruntime"] == MIN_ONNXRUNTIME
    assert manifest["evaluation_sha256"] == sha256(tiny_folder / "evaluation.txt")
    assert list(manifest["variants"]) == list(VARIANTS)


@pytest.mark.parametrize("variant", VARIANTS)
def test_manifest_lists_every_file_truly(
    manifest: dict[str, Any], tiny_folder: Path, variant: str
) -> None:
    stem = VARIANTS[variant]
    records = manifest["variants"][variant]["files"]
    assert [record["path"] for record in records] == [
        f"onnx/{stem}.onnx",
        f"onnx/{stem}.onnx_data",
    ]
    for record in records:
        path = tiny_folder / record["path"]
        assert record["bytes"] == path.stat().st_size
        assert record["sha256"] == sha256(path)


@pytest.mark.parametrize(("variant", "bits"), [("fp32", 32), ("int8", 8), ("q4", 4)])
def test_manifest_gives_the_bits_of_every_matrix(
    manifest: dict[str, Any], variant: str, bits: int
) -> None:
    """By the same names in every variant; q4 keeps 8 bits for the positions."""
    layer = ("attn.c_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_proj")
    expected = {f"transformer.h.{i}.{name}.weight": bits for i in range(2) for name in layer}
    expected |= {"transformer.wte.weight": bits, "transformer.wpe.weight": max(bits, 8)}
    assert manifest["variants"][variant]["bits"] == expected


def test_proof_is_in_the_manifest(manifest: dict[str, Any]) -> None:
    assert set(manifest["proof"]) == CHECKS
    assert all(0 <= worst < 1e-4 for worst in manifest["proof"].values())


def test_read_manifest_reads_what_was_written(tiny_folder: Path) -> None:
    found = read_manifest(tiny_folder)
    assert found.variant("int8").bits["transformer.wte.weight"] == 8
    sizes = {name: variant.bytes for name, variant in found.variants.items()}
    assert sizes["q4"] < sizes["int8"] < sizes["fp32"] / 2
