"""`package`: what is in a smaller folder and in one file, and what stays as it was."""

from __future__ import annotations

import json
import shutil
import zipfile
from pathlib import Path
from typing import Any

import pytest

import pocketgpt
from pocketgpt import ModelFolderError, OptionError, VariantNotFoundError
from pocketgpt.folder.manifest import read_manifest
from pocketgpt.folder.verification import verify_files

from ..conftest import Cli, contents
from .test_load import edit_manifest, flip_a_bit


def test_a_smaller_folder(tiny_folder: Path, tmp_path: Path) -> None:
    made = pocketgpt.package(tiny_folder, tmp_path / "small", ["q4"])
    assert (made.variants, made.sha256, made.signature) == (("q4",), None, None)
    found = contents(tmp_path / "small")
    assert made.bytes == sum(map(len, found.values()))
    names = {name for name in found if name.startswith("onnx/")}
    record = read_manifest(tiny_folder).variant("q4")
    assert names == {one.path for one in record.all_files}
    assert all(found[name] == (tiny_folder / name).read_bytes() for name in names)
    assert not {"evaluation.txt", "calibration.txt"} & set(found)
    for name in ("generation_config.json", "tokenizer.json", "tokenizer_config.json"):
        assert found[name] == (tiny_folder / name).read_bytes()
    manifest = read_manifest(tmp_path / "small")
    assert dict(manifest.variants) == {"q4": record}
    assert manifest.source == read_manifest(tiny_folder).source
    assert verify_files(tmp_path / "small").failures == ()
    says = [
        pocketgpt.load(folder, "q4", verify=True).generate("The keeper").token_ids
        for folder in (tiny_folder, tmp_path / "small")
    ]
    assert says[0] == says[1]


def test_what_other_runtimes_read_speaks_of_what_is_there(
    tiny_folder: Path, tmp_path: Path
) -> None:
    """config.json, genai_config.json, the Model Package's manifest and the card, restricted."""
    pocketgpt.package(tiny_folder, tmp_path / "small", ["int8"])
    small = tmp_path / "small"
    config = json.loads((small / "config.json").read_text("utf-8"))
    settings = config.pop("transformers.js_config")
    assert settings["use_external_data_format"] == {"model_int8.onnx": True}
    whole = json.loads((tiny_folder / "config.json").read_text("utf-8"))
    del whole["transformers.js_config"]
    assert config == whole
    genai = json.loads((small / "genai_config.json").read_text("utf-8"))
    assert genai["model"]["decoder"]["filename"] == "onnx/model_int8.onnx"
    package = (small / "manifest.json").read_text("utf-8")
    assert "model_int8.onnx" in package
    assert "model_q4.onnx" not in package
    card = (small / "README.md").read_text("utf-8")
    assert "int8" in card
    assert "q4" not in card
    for name in ("vocab.json", "merges.txt"):
        assert (small / name).read_bytes() == (tiny_folder / name).read_bytes()


def test_one_file_is_the_smaller_folder(tiny_folder: Path, tmp_path: Path) -> None:
    """Unpacked by another tool it is the folder, byte for byte; and made again, the same file."""
    pocketgpt.package(tiny_folder, tmp_path / "small", ["fp32", "q4"], texts=True)
    made = pocketgpt.package(
        tiny_folder, tmp_path / "one.pocketgpt", ["q4", "fp32", "q4"], texts=True
    )
    assert made.variants == ("fp32", "q4")
    assert made.bytes == (tmp_path / "one.pocketgpt").stat().st_size
    with zipfile.ZipFile(tmp_path / "one.pocketgpt") as archive:
        assert archive.testzip() is None
        assert archive.namelist() == sorted(archive.namelist())
        archive.extractall(tmp_path / "unpacked")
    expected = contents(tmp_path / "small")
    assert {"evaluation.txt", "calibration.txt"} < set(expected)
    assert contents(tmp_path / "unpacked") == expected
    again = pocketgpt.package(
        tmp_path / "small", tmp_path / "again.pocketgpt", ["fp32", "q4"], texts=True
    )
    assert again.sha256 == made.sha256


def test_a_package_is_unpacked_and_packed_again(tiny_folder: Path, tmp_path: Path) -> None:
    one, small = tmp_path / "one.pocketgpt", tmp_path / "small"
    pocketgpt.package(tiny_folder, one, ["int8", "q4"])
    pocketgpt.package(one, small, ["q4"])
    pocketgpt.package(tiny_folder, tmp_path / "other", ["q4"])
    assert contents(small) == contents(tmp_path / "other")


def test_what_is_taken_where_nothing_is_said(tiny_copy: Path, tmp_path: Path) -> None:
    """The same on every machine, whatever `load` would pick there."""
    assert pocketgpt.package(tiny_copy, tmp_path / "a").variants == ("int8",)
    edit_manifest(tiny_copy, lambda fields: fields["variants"].pop("int8"))
    assert pocketgpt.package(tiny_copy, tmp_path / "b").variants == ("fp32",)
    edit_manifest(tiny_copy, lambda fields: fields["variants"].pop("fp32"))
    assert pocketgpt.package(tiny_copy, tmp_path / "c").variants == ("q4",)

    def copy_q4(fields: dict[str, Any]) -> None:
        entry = json.dumps(fields["variants"]["q4"]).replace("_q4", "_mixed")
        fields["variants"]["mixed"] = json.loads(entry)

    edit_manifest(tiny_copy, copy_q4)
    with pytest.raises(OptionError, match=r"name what to package, .*: there are q4, mixed"):
        pocketgpt.package(tiny_copy, tmp_path / "d")
    with pytest.raises(OptionError, match="at least one"):
        pocketgpt.package(tiny_copy, tmp_path / "d", [])
    with pytest.raises(VariantNotFoundError, match="no variant 'q8'"):
        pocketgpt.package(tiny_copy, tmp_path / "d", ["q8"])
    assert not (tmp_path / "d").exists()


def test_licences_come_along_and_an_edited_card_stays(tiny_copy: Path, tmp_path: Path) -> None:
    (tiny_copy / "LICENSE").write_text("Do what you like.", "utf-8")
    (tiny_copy / "README.md").write_text("# Mine", "utf-8")
    (tiny_copy / "notes.txt").write_text("not for others", "utf-8")
    pocketgpt.package(tiny_copy, tmp_path / "small")
    found = contents(tmp_path / "small")
    assert found["LICENSE"] == b"Do what you like."
    assert found["README.md"] == b"# Mine"
    assert "notes.txt" not in found
    (tmp_path / "small" / "LICENSE").write_text("Do what I like.", "utf-8")
    (failure,) = verify_files(tmp_path / "small").failures
    assert "LICENSE" in failure


@pytest.mark.parametrize("name", ["small", "one.pocketgpt"])
@pytest.mark.parametrize(
    "damaged", ["onnx/model_int8.onnx_data", "onnx/model_int8.onnx", "tokenizer.json", "vocab.json"]
)
def test_what_was_altered_is_not_packaged(
    tiny_copy: Path, tmp_path: Path, name: str, damaged: str
) -> None:
    flip_a_bit(tiny_copy / damaged)
    with pytest.raises(ModelFolderError, match=damaged) as caught:
        pocketgpt.package(tiny_copy, tmp_path / "out" / name, ["int8"])
    assert "partial" not in str(caught.value)
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.parametrize("name", ["small", "one.pocketgpt"])
@pytest.mark.parametrize("missing", ["onnx/model_int8.onnx", "config.json", "tokenizer.json"])
def test_what_is_missing_is_named(tiny_copy: Path, tmp_path: Path, name: str, missing: str) -> None:
    (tiny_copy / missing).unlink()
    with pytest.raises(ModelFolderError, match=f"{tiny_copy}/{missing} is missing"):
        pocketgpt.package(tiny_copy, tmp_path / "out" / name, ["int8"])


def test_a_target_stays_unless_it_is_to_be_replaced(tiny_folder: Path, tmp_path: Path) -> None:
    one, small = tmp_path / "one.pocketgpt", tmp_path / "small"
    for target in (one, small):
        pocketgpt.package(tiny_folder, target, ["int8"])
        before = target.read_bytes() if target is one else contents(target)
        with pytest.raises(OptionError, match="--overwrite"):
            pocketgpt.package(tiny_folder, target, ["q4"])
        assert (target.read_bytes() if target is one else contents(target)) == before
        pocketgpt.package(tiny_folder, target, ["q4"], overwrite=True)
        assert list(read_manifest(target).variants) == ["q4"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one.pocketgpt", "small"]


def test_what_is_no_model_is_not_replaced(tiny_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "note.pocketgpt").write_text("a note", "utf-8")
    (tmp_path / "folder.pocketgpt").mkdir()
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "note.txt").write_text("a note", "utf-8")
    for name in ("note.pocketgpt", "folder.pocketgpt", "folder"):
        with pytest.raises(OptionError, match="exists and is no"):
            pocketgpt.package(tiny_folder, tmp_path / name, overwrite=True)
    assert (tmp_path / "note.pocketgpt").read_text("utf-8") == "a note"


def test_nothing_is_packaged_into_itself(tiny_copy: Path, tmp_path: Path) -> None:
    before = contents(tiny_copy)
    with pytest.raises(OptionError, match="choose another name"):
        pocketgpt.package(tiny_copy, tiny_copy, overwrite=True)
    assert contents(tiny_copy) == before
    pocketgpt.package(tiny_copy, tmp_path / "one.pocketgpt")
    with pytest.raises(OptionError, match="choose another name"):
        pocketgpt.package(tmp_path / "one.pocketgpt", tmp_path / "one.pocketgpt", overwrite=True)


@pytest.mark.parametrize("name", ["small", "one.pocketgpt"])
def test_a_failure_leaves_the_target_as_it_was(
    tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    target = tmp_path / name
    pocketgpt.package(tiny_folder, target, ["int8"])
    before = contents(tmp_path)

    def interrupted(_description: str, done: int, total: int) -> None:
        if done > total // 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pocketgpt.package(tiny_folder, target, ["q4"], overwrite=True, progress=interrupted)
    assert contents(tmp_path) == before


def test_a_place_that_cannot_be_written_is_named(tiny_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("", "utf-8")
    with pytest.raises(ModelFolderError, match="file cannot be read or written: Not a directory"):
        pocketgpt.package(tiny_folder, tmp_path / "file" / "one.pocketgpt")


def test_the_verb(cli: Cli, tiny_folder: Path, tmp_path: Path) -> None:
    one = tmp_path / "one.pocketgpt"
    done = cli("package", tiny_folder, one, "--variant", "q4", "--variant", "int8", "--json")
    assert done.returncode == 0
    found = json.loads(done.stdout)
    assert (found["path"], found["variants"]) == (str(one), ["int8", "q4"])
    assert found["bytes"] == one.stat().st_size
    done = cli("package", tiny_folder, tmp_path / "small")
    assert done.stdout.startswith(f"{tmp_path / 'small'}: int8, ")
    done = cli("package", tiny_folder, one)
    assert (done.returncode, done.stdout) == (2, "")
    assert "is there already; --overwrite" in done.stderr
    done = cli("package", tiny_folder, one, "--overwrite")
    assert done.returncode == 0
    assert "sha256 " in done.stdout
    assert cli("package", tmp_path / "none", one).returncode == 1
    assert cli("package", tiny_folder, one, "--certificate", "x").returncode == 2


def test_a_folder_without_fp32_cannot_be_proven(
    cli: Cli, tiny_folder: Path, tiny_checkpoint: Path, tmp_path: Path
) -> None:
    pytest.importorskip("torch", reason="proves by PyTorch")
    pocketgpt.package(tiny_folder, tmp_path / "small", ["q4"])
    done = cli("verify", tmp_path / "small")
    assert done.returncode == 0
    assert "there is no fp32 variant, which alone can be" in done.stdout
    done = cli("verify", tmp_path / "small", "--checkpoint", tiny_checkpoint)
    assert done.returncode == 2
    assert "has no fp32 variant, which alone equals a checkpoint" in done.stderr


def test_a_whole_package_is_proven_as_the_folder_is(
    cli: Cli, tiny_folder: Path, tiny_checkpoint: Path, tmp_path: Path
) -> None:
    pytest.importorskip("torch", reason="proves by PyTorch")
    one = tmp_path / "one.pocketgpt"
    pocketgpt.package(tiny_folder, one, ["fp32"])
    done = cli("verify", one, "--checkpoint", tiny_checkpoint, "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["proof"]
    assert found["failures"] == []


def test_the_bundled_checkpoint_in_one_file(bundled_folder: Path, tmp_path: Path) -> None:
    copied = Path(shutil.copytree(bundled_folder, tmp_path / "tales"))
    one = tmp_path / "tales.pocketgpt"
    assert pocketgpt.package(copied, one, ["fp32"]).bytes < 31e6
    shutil.rmtree(copied)
    text = pocketgpt.load(one, verify=True).generate("Once upon a time", max_new_tokens=20).text
    expected = pocketgpt.load(bundled_folder, "fp32").generate(
        "Once upon a time", max_new_tokens=20
    )
    assert text == expected.text
