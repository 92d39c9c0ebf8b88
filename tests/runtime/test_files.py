"""Writing files: whole or not at all."""

from __future__ import annotations

import hashlib
import json
import os
import sys
from pathlib import Path

import pytest

from pocketgpt.folder.atomic import exchange, staging_folder, write_json, write_text
from pocketgpt.folder.file_record import sha256


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("old", [None, "old"])
def test_write_text_replaces(tmp_path: Path, old: str | None) -> None:
    path = tmp_path / "file.txt"
    if old is not None:
        path.write_text(old, "utf-8")
    write_text(path, "größer\n🐕")
    assert path.read_bytes() == "größer\n🐕".encode()
    assert names_in(tmp_path) == ["file.txt"]


@pytest.mark.skipif(sys.platform == "win32", reason="modes")
@pytest.mark.parametrize("mask", [0o022, 0o077, 0o002])
def test_new_files_follow_the_umask(tmp_path: Path, mask: int) -> None:
    before = os.umask(mask)
    try:
        write_text(tmp_path / "file.txt", "text")
        with staging_folder(tmp_path / "target") as staging:
            staging.rename(tmp_path / "target")
    finally:
        os.umask(before)
    assert (tmp_path / "file.txt").stat().st_mode & 0o777 == 0o666 & ~mask
    assert (tmp_path / "target").stat().st_mode & 0o777 == 0o777 & ~mask


@pytest.mark.skipif(sys.platform == "win32", reason="modes")
@pytest.mark.parametrize("mode", [0o600, 0o640, 0o664])
def test_replaced_files_keep_their_mode(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "file.txt"
    path.write_text("old", "utf-8")
    path.chmod(mode)
    write_text(path, "new")
    assert path.stat().st_mode & 0o777 == mode


@pytest.mark.parametrize("failing", ["os.fsync", "pathlib.Path.replace"])
@pytest.mark.parametrize("error", [OSError("disk full"), KeyboardInterrupt()], ids=repr)
def test_failure_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: str, error: BaseException
) -> None:
    def fail(*_: object) -> None:
        raise error

    path = tmp_path / "file.txt"
    path.write_text("old", "utf-8")
    monkeypatch.setattr(failing, fail)
    with pytest.raises(type(error)):
        write_text(path, "new")
    monkeypatch.undo()
    assert path.read_text("utf-8") == "old"
    assert names_in(tmp_path) == ["file.txt"]


def test_text_that_cannot_be_encoded_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "file.txt"
    path.write_text("old", "utf-8")
    with pytest.raises(UnicodeEncodeError):
        write_text(path, "\ud800")
    assert path.read_text("utf-8") == "old"
    assert names_in(tmp_path) == ["file.txt"]


def test_write_json(tmp_path: Path) -> None:
    content = {"name": "größer 🐕", "numbers": [1, 2.5, None]}
    write_json(tmp_path / "file.json", content)
    text = (tmp_path / "file.json").read_text("utf-8")
    assert json.loads(text) == content
    assert text.endswith("}\n")
    assert "größer 🐕" in text


def test_staging_folder_lies_beside_and_is_removed(tmp_path: Path) -> None:
    with staging_folder(tmp_path / "new" / "target") as staging:
        (staging / "file").write_text("text", "utf-8")
        assert staging.parent == tmp_path / "new"
        assert names_in(tmp_path / "new") == [staging.name]
    assert names_in(tmp_path / "new") == []


def test_staging_folder_is_removed_after_a_failure(tmp_path: Path) -> None:
    def fail_inside() -> None:
        with staging_folder(tmp_path / "target") as staging:
            (staging / "file").write_text("text", "utf-8")
            raise RuntimeError("wrong")

    with pytest.raises(RuntimeError, match="wrong"):
        fail_inside()
    assert names_in(tmp_path) == []


def test_staging_folder_renamed_into_place_stays(tmp_path: Path) -> None:
    with staging_folder(tmp_path / "target") as staging:
        (staging / "file").write_text("text", "utf-8")
        staging.rename(tmp_path / "target")
    assert names_in(tmp_path) == ["target"]
    assert names_in(tmp_path / "target") == ["file"]


@pytest.mark.skipif(sys.platform == "win32", reason="no locks")
def test_a_new_staging_folder_is_not_taken_for_abandoned(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another process that comes between its making and its locking may remove it."""
    import fcntl

    target = tmp_path / "target"
    lock = fcntl.flock
    others: list[Path] = []

    def slow_lock(handle: int, how: int) -> None:
        monkeypatch.setattr("fcntl.flock", lock)
        with staging_folder(target) as other:  # as another process would
            others.append(other)
        lock(handle, how)

    monkeypatch.setattr("fcntl.flock", slow_lock)
    with staging_folder(target) as staging:
        assert len(others) == 1
        assert staging.is_dir()
        with staging_folder(target):
            assert staging.is_dir()
    assert names_in(tmp_path) == []


def test_exchange(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / name).touch()
    if exchange(tmp_path / "a", tmp_path / "b"):
        assert names_in(tmp_path / "a") == ["b"]
        assert names_in(tmp_path / "b") == ["a"]
    assert not exchange(tmp_path / "a", tmp_path / "missing")


def test_sha256(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"abc" * 100_000)
    assert sha256(tmp_path / "file") == hashlib.sha256(b"abc" * 100_000).hexdigest()
