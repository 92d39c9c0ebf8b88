"""`load`: what it picks, and what a damaged folder gets."""

from __future__ import annotations

import gc
import json
import shutil
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import pocketgpt
from pocketgpt import ModelFolderError, OptionError, VariantNotFoundError

DATA = "onnx/model.onnx_data"


def edit_manifest(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    path = folder / "pocketgpt.json"
    fields = json.loads(path.read_text("utf-8"))
    change(fields)
    path.write_text(json.dumps(fields), "utf-8")


def flip_a_bit(path: Path) -> None:
    """Same size, another content."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0x10
    path.write_bytes(content)


def assert_refused(error: type[Exception], says: str, folder: Path, **options: Any) -> None:
    with pytest.raises(error, match=says) as caught:
        pocketgpt.load(folder, options.pop("variant", "fp32"), **options)
    assert "\n" not in str(caught.value)
    assert str(folder) in str(caught.value) or error is VariantNotFoundError


@pytest.mark.parametrize("variant", ["fp32", "int8", "q4"])
@pytest.mark.parametrize("verify", [False, True])
def test_loads_what_is_asked_for(tiny_folder: Path, variant: str, verify: bool) -> None:
    model = pocketgpt.load(tiny_folder, variant, verify=verify)
    assert model.variant == variant
    assert list(model.manifest.variants) == ["fp32", "int8", "q4"]
    assert (model.config.n_layer, model.config.n_positions) == (2, 96)


def test_takes_a_string_and_a_path(tiny_folder: Path) -> None:
    text = pocketgpt.load(str(tiny_folder)).generate("A", max_new_tokens=3).text
    assert pocketgpt.load(tiny_folder).generate("A", max_new_tokens=3).text == text


def test_picks_int8_then_fp32(tiny_copy: Path) -> None:
    assert pocketgpt.load(tiny_copy).variant == "int8"
    edit_manifest(tiny_copy, lambda fields: fields["variants"].pop("int8"))
    assert pocketgpt.load(tiny_copy).variant == "fp32"


def test_no_folder(tmp_path: Path) -> None:
    assert_refused(ModelFolderError, "is not a folder; 'pocketgpt export'", tmp_path / "none")


def test_no_manifest(tiny_checkpoint: Path) -> None:
    assert_refused(
        ModelFolderError,
        r"has no pocketgpt\.json.*pocketgpt export CHECKPOINT FOLDER",
        tiny_checkpoint,
    )


@pytest.mark.parametrize("content", ["", "{", "[]", "null", "\x00", '"text"'])
def test_unreadable_manifest(tiny_copy: Path, content: str) -> None:
    (tiny_copy / "pocketgpt.json").write_text(content, "utf-8")
    assert_refused(ModelFolderError, "export the model again", tiny_copy)


def test_manifest_of_a_newer_format(tiny_copy: Path) -> None:
    edit_manifest(tiny_copy, lambda fields: fields.update(format_version=2))
    assert_refused(ModelFolderError, "format_version 2, this PocketGPT reads 1", tiny_copy)


@pytest.mark.parametrize(
    "change",
    [
        lambda fields: fields.pop("variants"),
        lambda fields: fields.pop("source"),
        lambda fields: fields.update(variants=["fp32"]),
        lambda fields: fields.update(variants={"fp32": None}),
        lambda fields: fields["variants"]["fp32"].pop("files"),
        lambda fields: fields["variants"]["fp32"]["files"][0].pop("sha256"),
    ],
)
def test_damaged_manifest(tiny_copy: Path, change: Callable[[dict[str, Any]], object]) -> None:
    edit_manifest(tiny_copy, change)
    assert_refused(ModelFolderError, r"is damaged \(.*export the model again", tiny_copy)


@pytest.mark.parametrize("variant", ["q8", "fp16", "", "FP32", "../fp32"])
def test_variant_never_made(tiny_folder: Path, variant: str) -> None:
    assert_refused(
        VariantNotFoundError,
        f"no variant '{variant}' in this folder, which has fp32, int8, q4; make it with",
        tiny_folder,
        variant=variant,
    )


@pytest.mark.parametrize("name", ["onnx/model.onnx", DATA])
def test_missing_variant_file(tiny_copy: Path, name: str) -> None:
    (tiny_copy / name).unlink()
    assert_refused(ModelFolderError, f"{name} is missing; copy it again", tiny_copy)
    assert pocketgpt.load(tiny_copy, "int8").variant == "int8"


@pytest.mark.parametrize("name", ["onnx/model.onnx", DATA])
@pytest.mark.parametrize("longer", [True, False])
def test_altered_size(tiny_copy: Path, name: str, longer: bool) -> None:
    path = tiny_copy / name
    content = path.read_bytes()
    path.write_bytes(content + b"\0" if longer else content[:-1])
    found = len(content) + (1 if longer else -1)
    says = f"{name} has {found} bytes, the manifest says {len(content)}"
    assert_refused(ModelFolderError, says, tiny_copy)


@pytest.mark.parametrize("variant", ["fp32", "int8", "q4"])
def test_altered_byte_is_found_by_verify_alone(tiny_copy: Path, variant: str) -> None:
    stem = "model" if variant == "fp32" else f"model_{variant}"
    flip_a_bit(tiny_copy / "onnx" / f"{stem}.onnx_data")
    assert pocketgpt.load(tiny_copy, variant).variant == variant
    assert_refused(
        ModelFolderError, "was altered: its sha256", tiny_copy, variant=variant, verify=True
    )


def test_graph_that_onnxruntime_cannot_read(tiny_copy: Path) -> None:
    path = tiny_copy / "onnx/model.onnx"
    path.write_bytes(b"\xff" * path.stat().st_size)
    assert_refused(ModelFolderError, "ONNX Runtime cannot load", tiny_copy)


@pytest.mark.parametrize("name", ["tokenizer.json", "config.json"])
def test_missing_companion(tiny_copy: Path, name: str) -> None:
    (tiny_copy / name).unlink()
    assert_refused(ModelFolderError, name, tiny_copy)


@pytest.mark.parametrize("name", ["config.json", "generation_config.json"])
@pytest.mark.parametrize("content", ["{", "[]", "\udcff"])
def test_unreadable_json(tiny_copy: Path, name: str, content: str) -> None:
    (tiny_copy / name).write_bytes(content.encode("utf-8", "surrogateescape"))
    assert_refused(ModelFolderError, name, tiny_copy)


@pytest.mark.parametrize("value", [None, "many", [2]])
def test_config_without_a_number(tiny_copy: Path, value: object) -> None:
    path = tiny_copy / "config.json"
    fields = json.loads(path.read_text("utf-8"))
    path.write_text(json.dumps({**fields, "n_layer": value}), "utf-8")
    assert_refused(ModelFolderError, r"config\.json lacks a valid", tiny_copy)
    del fields["n_layer"]
    path.write_text(json.dumps(fields), "utf-8")
    assert_refused(ModelFolderError, r"config\.json lacks a valid 'n_layer'", tiny_copy)


@pytest.mark.parametrize("threads", [0, -1, 1.5, "2", True])
def test_bad_threads(tiny_folder: Path, threads: Any) -> None:
    with pytest.raises(OptionError, match="threads should be a whole number of at least 1"):
        pocketgpt.load(tiny_folder, "fp32", threads=threads)


def test_threads_do_not_change_the_text(tiny_folder: Path) -> None:
    texts = {
        pocketgpt.load(tiny_folder, "fp32", threads=threads).generate("A").text
        for threads in (None, 1, 2)
    }
    assert len(texts) == 1


def test_a_folder_can_be_moved(tiny_copy: Path, tmp_path: Path) -> None:
    moved = shutil.move(tiny_copy, tmp_path / "elsewhere, größer 🐕")
    assert pocketgpt.load(moved, "q4", verify=True).generate("A", max_new_tokens=2).token_ids


def test_a_model_let_go_of_leaves_memory_at_once(tiny_folder: Path) -> None:
    """Without waiting for the garbage collector: nothing in it refers back to it."""
    gc.disable()
    try:
        model = pocketgpt.load(tiny_folder, "fp32")
        model.generate("The ship", max_new_tokens=2)
        gone = weakref.ref(model)
        del model
        assert gone() is None
    finally:
        gc.enable()
