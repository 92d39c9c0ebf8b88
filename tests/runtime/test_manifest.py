"""`pocketgpt.json` and config.json: bad states get one line, unknown fields are passed over."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnxruntime as ort
import pytest

import pocketgpt
from pocketgpt import ModelFolderError, OptionError, VariantNotFoundError
from pocketgpt.folder.config import ModelConfig
from pocketgpt.folder.file_record import FileRecord
from pocketgpt.folder.json_file import read_json_object
from pocketgpt.folder.manifest import read_manifest, variant_path
from pocketgpt.folder.neighbours import NEIGHBOURS
from pocketgpt.folder.verification import verify_files

from .test_load import assert_refused, edit_manifest, flip_a_bit

Change = Callable[[dict[str, Any]], object]
HASH = 64 * "0"


def fp32(fields: dict[str, Any]) -> dict[str, Any]:
    entry: dict[str, Any] = fields["variants"]["fp32"]
    return entry


def graph_record(fields: dict[str, Any]) -> dict[str, Any]:
    record: dict[str, Any] = fp32(fields)["files"][0]
    return record


DAMAGES: dict[str, Change] = {
    "no files": lambda f: fp32(f).update(files=[]),
    "one file": lambda f: fp32(f)["files"].pop(),
    "files reversed": lambda f: fp32(f)["files"].reverse(),
    "another variant's files": lambda f: fp32(f).update(files=f["variants"]["int8"]["files"]),
    "out of the folder": lambda f: graph_record(f).update(path="../model.onnx"),
    "absolute": lambda f: graph_record(f).update(path="/etc/passwd"),
    "drive": lambda f: graph_record(f).update(path="C:model.onnx"),
    "backslash": lambda f: graph_record(f).update(path="onnx\\model.onnx"),
    "path is a number": lambda f: graph_record(f).update(path=3),
    "size is a float": lambda f: graph_record(f).update(bytes=1.0),
    "size is true": lambda f: graph_record(f).update(bytes=True),
    "size below 0": lambda f: graph_record(f).update(bytes=-1),
    "size of 400 digits": lambda f: graph_record(f).update(bytes=10**400),
    "short hash": lambda f: graph_record(f).update(sha256="00"),
    "hash in capitals": lambda f: graph_record(f).update(sha256=64 * "A"),
    "hash is null": lambda f: graph_record(f).update(sha256=None),
    "graph": lambda f: f.update(graph="banana"),
    "graph is a list": lambda f: f.update(graph=["fused"]),
    "opset": lambda f: f.update(opset="21"),
    "no variants": lambda f: f.update(variants={}),
    "variant's name": lambda f: f["variants"].update({"../../x": fp32(f)}),
    "hidden variant": lambda f: f["variants"].update({".x": fp32(f)}),
    "bits are text": lambda f: fp32(f).update(bits={"w": "32"}),
    "bits of 0": lambda f: fp32(f).update(bits={"w": 0}),
    "quality is a list": lambda f: fp32(f).update(quality=[1]),
    "quality is text": lambda f: fp32(f).update(quality={"perplexity": "low"}),
    "quality is infinite": lambda f: fp32(f).update(quality={"perplexity": float("inf")}),
    "tolerance below 0": lambda f: fp32(f).update(tolerance=-1),
    "loss_accepted": lambda f: fp32(f).update(loss_accepted=1),
    "source with a new line": lambda f: f.update(source="a\nb"),
    "source with an escape": lambda f: f.update(source="\x1b[2J"),
    "proof": lambda f: f.update(proof={"cached": None}),
    "min_onnxruntime": lambda f: f.update(min_onnxruntime="new"),
    "parameters": lambda f: f.update(parameters=-1),
    "companions": lambda f: f.update(companions={"path": "config.json"}),
    "companion outside": lambda f: f.update(
        companions=[{"path": "../config.json", "bytes": 1, "sha256": HASH}]
    ),
    "installing": lambda f: f.update(installing=3),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damage_is_refused(tiny_copy: Path, damage: str) -> None:
    edit_manifest(tiny_copy, DAMAGES[damage])
    for verify in (False, True):
        assert_refused(
            ModelFolderError,
            r"is damaged \(.*export the model again",
            tiny_copy,
            verify=verify,
        )


def test_fields_of_a_later_version_are_passed_over(tiny_copy: Path, tiny: pocketgpt.Model) -> None:
    before = read_manifest(tiny_copy)

    def add(fields: dict[str, Any]) -> None:
        fields["surprise"] = {"a": [1]}
        fp32(fields)["surprise"] = None
        graph_record(fields)["surprise"] = "x"

    edit_manifest(tiny_copy, add)
    assert read_manifest(tiny_copy) == before
    assert pocketgpt.load(tiny_copy, "fp32").generate("A").text == tiny.generate("A").text


@pytest.mark.parametrize("version", [None, "1", 0, 2, True, [1], 10**30])
def test_another_format(tiny_copy: Path, version: object) -> None:
    edit_manifest(tiny_copy, lambda fields: fields.update(format_version=version))
    assert_refused(ModelFolderError, "has format_version .*, this PocketGPT reads 1", tiny_copy)


def test_a_later_onnxruntime_is_asked_for(tiny_copy: Path) -> None:
    """A folder for an older one loads; numbers are compared, not letters."""
    edit_manifest(tiny_copy, lambda fields: fields.update(min_onnxruntime="1.9"))
    pocketgpt.load(tiny_copy, "fp32")
    edit_manifest(tiny_copy, lambda fields: fields.update(min_onnxruntime="1.1000"))
    says = r"takes ONNX Runtime 1\.1000 or newer, and .* pip install 'onnxruntime>=1\.1000'"
    assert_refused(ModelFolderError, says, tiny_copy)


DEEP = 200_000 * "[" + 200_000 * "]"


@pytest.mark.parametrize("name", ["pocketgpt.json", "config.json", "generation_config.json"])
@pytest.mark.parametrize(
    ("content", "says"),
    [
        (DEEP, "nested too deeply"),
        (f'{{"n_layer": {DEEP}}}', "nested too deeply"),
        (f'{{"n_layer": {"9" * 5000}}}', "cannot be read"),
        ("[1]", "should hold a JSON object"),
        ('{"n_layer"', "cannot be read"),
    ],
    ids=["deep", "deeper", "digits", "list", "cut"],
)
def test_json_that_is_no_object(tiny_copy: Path, name: str, content: str, says: str) -> None:
    (tiny_copy / name).write_text(content, "utf-8")
    assert_refused(ModelFolderError, f"{name} cannot be read: .*{says}|{says}", tiny_copy)


def test_json_that_is_too_large(tmp_path: Path) -> None:
    path = tmp_path / "large.json"
    path.write_text(json.dumps({"text": 1000 * "a"}), "utf-8")
    assert read_json_object(path, largest=2000)
    with pytest.raises(ModelFolderError, match="it has more than 1,000 bytes"):
        read_json_object(path, largest=1000)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes")
@pytest.mark.parametrize(
    "name",
    [
        "pocketgpt.json",
        "config.json",
        "generation_config.json",
        "tokenizer.json",
        "onnx/model.onnx",
        "onnx/model.onnx_data",
    ],
)
def test_a_pipe_is_not_waited_for(tiny_copy: Path, name: str) -> None:
    (tiny_copy / name).unlink()
    os.mkfifo(tiny_copy / name)
    assert_refused(ModelFolderError, "no file|is missing", tiny_copy)


SIZES = {"n_layer": 2, "n_head": 2, "n_embd": 128, "n_positions": 96, "vocab_size": 400}
NO_SIZES = [0, -1, True, 2.0, "2", None, [2], 2**31, 10**400, float("inf"), float("nan")]


@pytest.mark.parametrize("name", SIZES)
@pytest.mark.parametrize("value", NO_SIZES, ids=lambda value: str(value)[:8])
def test_no_sizes(name: str, value: Any) -> None:
    with pytest.raises(ValueError, match=f"'{name}': it should be a whole number") as caught:
        ModelConfig(**{**SIZES, name: value})
    assert len(str(caught.value)) < 200


def test_heads_that_cannot_share_the_width(tiny_copy: Path) -> None:
    path = tiny_copy / "config.json"
    fields = json.loads(path.read_text("utf-8"))
    path.write_text(json.dumps(fields | {"n_head": 3}), "utf-8")
    assert_refused(ModelFolderError, r"config\.json lacks a valid 'n_embd': 3 heads", tiny_copy)


def test_an_unknown_variant_is_a_wrong_call(tiny_folder: Path, cli: Callable[..., Any]) -> None:
    assert issubclass(VariantNotFoundError, OptionError)
    for verb in (["generate", tiny_folder, "A", "--variant"], ["quantize", tiny_folder]):
        done = cli(*verb, "q3")
        assert done.returncode == 2
        assert done.stderr.splitlines()[-1].startswith("error: no variant ")


@pytest.mark.skipif(not hasattr(os, "symlink"), reason="no links")
@pytest.mark.parametrize(
    "name", ["onnx/model.onnx", "onnx/model.onnx_data", "tokenizer.json", "config.json", "onnx"]
)
def test_links_that_leave_the_folder(tiny_copy: Path, tmp_path: Path, name: str) -> None:
    outside = tmp_path / "outside"
    (tiny_copy / name).rename(outside)
    (tiny_copy / name).symlink_to(outside)
    assert_refused(ModelFolderError, "is a link that leaves the folder", tiny_copy)


@pytest.mark.skipif(not hasattr(os, "symlink"), reason="no links")
def test_links_of_the_hugging_face_cache(tiny_copy: Path, tmp_path: Path) -> None:
    """models--a--b/snapshots/REVISION/... are links to models--a--b/blobs/..."""
    blobs = tmp_path / "models--a--b" / "blobs"
    snapshot = tmp_path / "models--a--b" / "snapshots" / "0123abc"
    blobs.mkdir(parents=True)
    for index, path in enumerate(sorted(p for p in tiny_copy.rglob("*") if p.is_file())):
        link = snapshot / path.relative_to(tiny_copy)
        link.parent.mkdir(parents=True, exist_ok=True)
        path.rename(blobs / str(index))
        link.symlink_to(os.path.relpath(blobs / str(index), link.parent))
    assert pocketgpt.load(snapshot, "int8", verify=True).generate("A").text


def test_a_circle_of_links(tiny_copy: Path) -> None:
    (tiny_copy / "config.json").unlink()
    (tiny_copy / "config.json").symlink_to("config.json")
    assert_refused(ModelFolderError, "config.json", tiny_copy)


COMPANIONS = ["config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json"]
TEXTS = ["evaluation.txt", "calibration.txt"]


def test_the_manifest_lists_what_lies_beside_the_graphs(tiny_folder: Path) -> None:
    """config.json as quantizing has left it."""
    records = read_manifest(tiny_folder).companions
    assert {record.path for record in records} == {*COMPANIONS, *TEXTS, *NEIGHBOURS}
    assert all(FileRecord.of(tiny_folder, record.path) == record for record in records)
    assert verify_files(tiny_folder).failures == ()


@pytest.mark.parametrize("name", [*COMPANIONS, *TEXTS])
def test_an_altered_companion_is_found(tiny_copy: Path, name: str) -> None:
    path = tiny_copy / name
    content = path.read_text("utf-8")
    path.write_text(content.replace(" ", "  ", 1), "utf-8")
    (failure,) = verify_files(tiny_copy).failures
    assert f"{name} has {path.stat().st_size} bytes, the manifest says" in failure
    path.write_text(content, "utf-8")
    flip_a_bit(path)
    (failure,) = verify_files(tiny_copy).failures
    assert f"{name} was altered" in failure
    if name in COMPANIONS:
        assert_refused(ModelFolderError, f"{name} was altered", tiny_copy, verify=True)
    else:  # which the runtime does not read
        assert pocketgpt.load(tiny_copy, "fp32", verify=True)


def test_an_added_companion_is_found(tiny_copy: Path) -> None:
    (tiny_copy / "chat_template.jinja").write_text("{{ 1 }}", "utf-8")
    (failure,) = verify_files(tiny_copy).failures
    assert failure.endswith("chat_template.jinja was added: the manifest does not list it")
    assert_refused(ModelFolderError, "was added", tiny_copy, verify=True)


def test_an_older_manifest_lists_no_companions(tiny_copy: Path) -> None:
    edit_manifest(tiny_copy, lambda fields: fields.pop("companions"))
    flip_a_bit(tiny_copy / "evaluation.txt")
    assert verify_files(tiny_copy).failures == ()
    assert pocketgpt.load(tiny_copy, "fp32", verify=True).variant == "fp32"


def test_what_is_checked_is_what_is_opened(
    tiny_copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A variant that is replaced between its check and its opening is not taken for the old one."""
    session, path = ort.InferenceSession, tiny_copy / variant_path("fp32")

    def replaced_before(graph: Any, *arguments: Any, **options: Any) -> ort.InferenceSession:
        other = path.with_name("other")
        other.write_bytes(path.read_bytes())
        other.replace(path)
        return session(graph, *arguments, **options)

    monkeypatch.setattr(ort, "InferenceSession", replaced_before)
    assert_refused(ModelFolderError, "was changed while it was read; load it again", tiny_copy)
