"""Targets that are links, that something is mounted on, or that we stand in."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import pocketgpt
from pocketgpt import CheckpointError, OptionError
from pocketgpt.folder.install import install, is_fixed, staging_for
from pocketgpt.folder.verification import verify_files
from pocketgpt_export import export

EXPORT = "import sys; from pocketgpt_export import export; export(sys.argv[1], '.', overwrite=True)"


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.skipif(sys.platform == "win32", reason="links")
def test_a_link_stays_and_its_target_is_replaced(
    make_checkpoint: Callable[..., Path], tmp_path: Path
) -> None:
    checkpoint = make_checkpoint(n_layer=1)
    (tmp_path / "disk").mkdir()
    (tmp_path / "models").mkdir()
    link = tmp_path / "models" / "mine"
    link.symlink_to(tmp_path / "disk" / "model")  # which is not there yet
    for _ in range(2):
        export(checkpoint, link, overwrite=True)
        assert link.is_symlink()
        assert verify_files(link).failures == ()
        assert (names(tmp_path / "disk"), names(tmp_path / "models")) == (["model"], ["mine"])


@pytest.mark.skipif(sys.platform == "win32", reason="links")
def test_links_in_a_circle(tiny_checkpoint: Path, tmp_path: Path) -> None:
    (tmp_path / "circle").symlink_to("circle")
    with pytest.raises(OptionError, match="circle"):
        export(tiny_checkpoint, tmp_path / "circle")
    assert names(tmp_path) == ["circle"]


def test_where_we_stand(make_checkpoint: Callable[..., Path], tmp_path: Path) -> None:
    """Empty first, then over a model: the folder stays the one that a shell stands in."""
    checkpoint, here = make_checkpoint(n_layer=1), tmp_path / "here"
    here.mkdir()
    inode = here.stat().st_ino
    for _ in range(2):
        command = [sys.executable, "-W", "ignore", "-c", EXPORT, str(checkpoint)]
        done = subprocess.run(command, cwd=here, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert here.stat().st_ino == inode
        assert verify_files(here).failures == ()
        assert [name for name in names(here) if name.startswith(".")] == []
    assert pocketgpt.load(here).generate("the cat", max_new_tokens=2).token_ids


@pytest.fixture
def mounted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a file on which something is mounted, or so it looks: it cannot be renamed."""
    folder, rename = tmp_path / "mounted", Path.rename
    (folder / "onnx").mkdir(parents=True)
    for name in ("pocketgpt.json", "onnx/model.onnx", "notes.txt"):
        (folder / name).write_text("old", "utf-8")

    def busy(path: Path, target: Path) -> Path:
        if folder in (path, Path(target)):
            raise OSError(16, "Device or resource busy")
        return rename(path, target)

    monkeypatch.setattr(os.path, "ismount", lambda path: Path(path) == folder)
    monkeypatch.setattr(Path, "rename", busy)
    return folder


def test_a_mount_point_is_filled(mounted: Path) -> None:
    assert is_fixed(mounted)
    with staging_for(mounted) as staging:
        assert staging.parent == mounted
        (staging / "onnx").mkdir()
        for name in ("pocketgpt.json", "onnx/model.onnx"):
            (staging / name).write_text("new", "utf-8")
        install(staging, mounted)
    assert names(mounted) == ["onnx", "pocketgpt.json"]
    assert (mounted / "onnx" / "model.onnx").read_text("utf-8") == "new"
    assert names(mounted.parent) == ["mounted"]


@pytest.mark.parametrize("failing", ["pocketgpt.json", "onnx"])
@pytest.mark.parametrize("moment", ["out", "in"])
def test_a_mount_point_that_cannot_be_filled_is_as_it_was(
    mounted: Path, monkeypatch: pytest.MonkeyPatch, failing: str, moment: str
) -> None:
    rename, failed = Path.rename, False

    def fail_once(path: Path, target: Path) -> Path:
        nonlocal failed
        moved = path if moment == "out" else Path(target)
        if moved == mounted / failing and not failed:
            failed = True
            raise OSError("held open")
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", fail_once)
    with staging_for(mounted) as staging:
        (staging / "onnx").mkdir()
        (staging / "pocketgpt.json").write_text("new", "utf-8")
        with pytest.raises(OSError, match="held open"):
            install(staging, mounted)
    assert names(mounted) == ["notes.txt", "onnx", "pocketgpt.json"]
    assert (mounted / "pocketgpt.json").read_text("utf-8") == "old"
    assert (mounted / "onnx" / "model.onnx").read_text("utf-8") == "old"


@pytest.mark.skipif(sys.platform == "win32", reason="modes")
def test_an_overwritten_folder_keeps_its_mode(tmp_path: Path) -> None:
    old = tmp_path / "old"
    old.mkdir(mode=0o700)
    with staging_for(old) as staging:
        (staging / "pocketgpt.json").write_text("new", "utf-8")
        install(staging, old)
    assert old.stat().st_mode & 0o777 == 0o700
    assert names(old) == ["pocketgpt.json"]


def test_a_file_that_cannot_be_read_is_named(
    tiny_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And is not taken for a target that cannot be written."""
    refused = tiny_checkpoint / "evaluation.txt"

    def fail(source: Path, target: Path) -> None:
        raise PermissionError(13, "Permission denied", str(refused))

    monkeypatch.setattr("pocketgpt_export.exporting.shutil.copyfile", fail)
    with pytest.raises(CheckpointError, match="Permission denied") as caught:
        export(tiny_checkpoint, tmp_path / "new")
    assert str(caught.value).startswith(f"{refused} cannot be read")
    assert names(tmp_path) == []
