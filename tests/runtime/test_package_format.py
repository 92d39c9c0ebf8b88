"""The one file's format: what is written, and what is refused of what others may write."""

from __future__ import annotations

import stat
import struct
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

import pocketgpt
from pocketgpt import ModelFolderError
from pocketgpt.folder.package import writing
from pocketgpt.folder.package.reading import ALIGNMENT, PackageFiles
from pocketgpt.folder.package.writing import PackageWriter

FILES = {
    "config.json": b"{}",
    "onnx/model.onnx": b"graph" * 50,
    "onnx/model.onnx_data": bytes(range(256)) * 40,
    "onnx/model_q4.onnx_data": b"",
    "pocketgpt.json": b"{}",
}
LOCAL, CENTRAL, END = b"PK\3\4", b"PK\1\2", b"PK\5\6"


def written(path: Path, files: dict[str, bytes] = FILES) -> Path:
    with PackageWriter(path) as writer:
        for name, content in files.items():
            writer.add(name, len(content), [content[:7], content[7:]])
    return path


def refused(path: Path, content: bytes | None = None) -> str:
    """Return what is said of a package, which names it in a line."""
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ModelFolderError) as caught:
        PackageFiles(path)
    line = str(caught.value)
    assert line.startswith(f"{path} is no package, or damaged: ")
    assert "\n" not in line
    return line


@pytest.fixture
def package(tmp_path: Path) -> Path:
    return written(tmp_path / "model.pocketgpt")


def test_what_was_written_is_read(package: Path) -> None:
    files = PackageFiles(package)
    assert files.names == list(FILES)
    for name, content in FILES.items():
        file = files.find(name)
        assert (file.read(10**6), file.exists(), str(file)) == (content, True, f"{package}/{name}")
        assert package.read_bytes()[file.begin : file.begin + file.length()] == content
        if name.endswith(".onnx_data"):
            assert file.begin % ALIGNMENT == 0
    with pytest.raises(ValueError, match="more than 100 bytes"):
        files.find("onnx/model.onnx").read(100)
    missing = files.find("none.json")
    assert (missing.exists(), missing.is_file()) == (False, False)


def test_other_tools_read_it(package: Path) -> None:
    with zipfile.ZipFile(package) as archive:
        assert archive.testzip() is None
        assert {name: archive.read(name) for name in archive.namelist()} == FILES
        for entry in archive.infolist():
            assert (entry.compress_type, entry.date_time[0], entry.flag_bits) == (0, 1980, 0)
            assert stat.S_ISREG(entry.external_attr >> 16)
            assert entry.extra == b""


@pytest.mark.parametrize("length", range(1, 40, 3))
def test_weights_are_aligned_whatever_stands_before(tmp_path: Path, length: int) -> None:
    files = {"a" * length: b"x" * (length * 977), "b.onnx_data": b"weights", "c": b""}
    path = written(tmp_path / "model.pocketgpt", files)
    assert PackageFiles(path).find("b.onnx_data").begin % ALIGNMENT == 0
    assert PackageFiles(path).find("b.onnx_data").read(99) == b"weights"


def test_sizes_in_64_bits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As of files beyond 4 GB; here of smaller ones, with the limits moved."""
    monkeypatch.setattr(writing, "_LARGE", 100)
    monkeypatch.setattr(zipfile, "ZIP64_LIMIT", 200)
    monkeypatch.setattr(zipfile, "ZIP_FILECOUNT_LIMIT", 2)
    path = written(tmp_path / "model.pocketgpt")
    content = path.read_bytes()
    assert b"PK\6\6" in content
    assert b"PK\6\7" in content
    files = PackageFiles(path)
    assert {name: files.find(name).read(10**6) for name in files.names} == FILES
    assert files.find("onnx/model.onnx_data").begin % ALIGNMENT == 0
    for mark, place in ((b"PK\6\6", 4), (b"PK\6\6", 40), (b"PK\6\7", 8), (b"PK\6\7", 16)):
        changed = bytearray(content)
        changed[content.index(mark) + place] ^= 1
        refused(path, bytes(changed))
    directory = content.index(CENTRAL)
    extra = content.index(struct.pack("<HH", 1, 16), directory)
    for place in (0, 2, 4, 12):
        changed = bytearray(content)
        changed[extra + place] ^= 1
        refused(path, bytes(changed))


def other(path: Path, change: Callable[[zipfile.ZipFile], object]) -> Path:
    """Write the same files as Python's zipfile does, and something more."""
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in FILES.items():
            if not name.endswith("data"):
                archive.writestr(zipfile.ZipInfo(name), content)
        change(archive)
    return path


def test_what_other_tools_write_will_do_where_it_is_plain(tmp_path: Path) -> None:
    path = other(tmp_path / "model.pocketgpt", lambda _: None)
    assert PackageFiles(path).find("onnx/model.onnx").read(1000) == FILES["onnx/model.onnx"]


def entry_of_mode(mode: int) -> Callable[[zipfile.ZipFile], object]:
    def add(archive: zipfile.ZipFile) -> None:
        entry = zipfile.ZipInfo("link.json")
        entry.external_attr = (mode | 0o777) << 16
        archive.writestr(entry, "../../secret")

    return add


def deflated(archive: zipfile.ZipFile) -> None:
    archive.writestr("bomb.json", bytes(10**6), zipfile.ZIP_DEFLATED)


def twice(name: str) -> Callable[[zipfile.ZipFile], object]:
    def add(archive: zipfile.ZipFile) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of zipfile, which writes it all the same
            archive.writestr(name, "{}")

    return add


def commented(archive: zipfile.ZipFile) -> None:
    archive.comment = b"a comment"


def streamed(archive: zipfile.ZipFile) -> None:
    """With sizes behind the file, as where the archive cannot be wound back."""
    archive._seekable = False  # type: ignore[attr-defined]
    archive.writestr("later.json", "{}")


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (entry_of_mode(stat.S_IFLNK), "link.json is a link, or no file"),
        (entry_of_mode(stat.S_IFDIR), "link.json is a link, or no file"),
        (entry_of_mode(stat.S_IFCHR), "link.json is a link, or no file"),
        (deflated, "bomb.json is compressed"),
        (twice("config.json"), "two of its files have one name"),
        (twice("Config.JSON"), "two of its files have one name"),
        (commented, "without a comment"),
        (streamed, "written otherwise"),
        (lambda archive: archive.writestr("a.onnx_data", "x"), "at a multiple of 4096 bytes"),
        (lambda archive: archive.mkdir("empty"), "'empty/' is no name for a file of a model"),
        *(
            (lambda archive, name=name: archive.writestr(name, "x"), "is no name for a file")
            for name in (
                "../up.json",
                "a/../../b",
                "/etc/passwd",
                "C:x",
                "a\\b",
                ".hidden",
                "größe",
                "a//b",
                "a\nb",
                "./a",
                "x" * 200,
            )
        ),
    ],
)
def test_what_a_model_does_not_hold_is_refused(
    tmp_path: Path, change: Callable[[zipfile.ZipFile], object], says: str
) -> None:
    assert says in refused(other(tmp_path / "model.pocketgpt", change))


def edited(content: bytes, mark: bytes, number: int, place: int, value: bytes) -> bytes:
    """Overwrite a piece of the `number`th record that begins with `mark`."""
    at = -1
    for _ in range(number + 1):
        at = content.index(mark, at + 1)
    return content[: at + place] + value + content[at + place + len(value) :]


@pytest.mark.parametrize(
    ("mark", "place", "value", "says"),
    [
        (CENTRAL, 8, b"\1", "is encrypted"),
        (LOCAL, 6, b"\1", "is encrypted"),
        (CENTRAL, 8, b"\x40", "written otherwise"),
        (CENTRAL, 10, b"\x08", "is compressed"),
        (LOCAL, 8, b"\x08", "is compressed"),
        (CENTRAL, 16, b"\1\2\3\4", "another file than its directory says"),
        (LOCAL, 14, b"\1\2\3\4", "another file than its directory says"),
        (CENTRAL, 20, b"\1", "is compressed"),
        (CENTRAL, 24, b"\1", "is compressed"),
        (LOCAL, 22, b"\1", "another file than its directory says"),
        (CENTRAL, 20, b"\xff" * 8, "sizes beyond 4 GB are missing"),
        (LOCAL, 18, b"\xff" * 8, "sizes beyond 4 GB are missing"),
        (CENTRAL, 28, b"\xff\xff", "its directory cannot be read"),
        (CENTRAL, 34, b"\1", "its directory cannot be read"),
        (CENTRAL, 42, b"\1", "does not begin where the file before it ends"),
        (LOCAL, 0, b"PK\3\5", "another file than its directory says"),
        (LOCAL, 30, b"C", "another file than its directory says"),
        (END, 4, b"\1", "its directory does not lie at its end"),
        (END, 8, b"\1", "its directory does not lie at its end"),
        (END, 8, b"\1\0\1\0", "its directory is not of 1 files"),
        (END, 12, b"\1\0\0\0", "its directory does not lie at its end"),
        (END, 16, b"\1\0\0\0", "its directory does not lie at its end"),
        (END, 20, b"\1", "without a comment"),
        (END, 8, b"\xff\xff\xff\xff", "is not of 65535 files"),
    ],
)
def test_records_that_do_not_agree_are_refused(
    package: Path, mark: bytes, place: int, value: bytes, says: str
) -> None:
    assert says in refused(package, edited(package.read_bytes(), mark, 0, place, value))


def test_nothing_lies_between_the_files_or_around_them(package: Path) -> None:
    content = package.read_bytes()
    assert "does not lie at its end" in refused(package, b"#!/bin/sh\n" + content)
    assert "does not end as a ZIP file" in refused(package, content + b"\0")
    assert "does not lie at its end" in refused(package, content + content)
    begin = content.index(CENTRAL)
    gap = content[:begin] + b"hidden" + content[begin:]
    at = gap.rindex(END)
    moved = gap[: at + 16] + struct.pack("<L", begin + 6) + gap[at + 20 :]
    assert "its files do not end where its directory begins" in refused(package, moved)


def test_files_that_overlap_are_refused(package: Path) -> None:
    """Two entries of one place, of which a bomb is made."""
    content = package.read_bytes()
    first = content.index(CENTRAL)
    second = content.index(CENTRAL, first + 1)
    third = content.index(CENTRAL, second + 1)
    place = content[second + 42 : second + 46]
    changed = content[: third + 42] + place + content[third + 46 :]
    assert "another file than its directory says" in refused(package, changed) or (
        "does not begin where" in refused(package, changed)
    )


def test_every_cut_is_refused(package: Path) -> None:
    content = package.read_bytes()
    for size in [*range(0, len(content), 997), len(content) - 1]:
        refused(package, content[:size])


def test_a_directory_larger_than_any_models_is_not_read(tmp_path: Path) -> None:
    files = {f"{number:0120}": b"" for number in range(7000)}
    path = written(tmp_path / "model.pocketgpt", files)
    assert "its directory has 1,162,000 bytes" in refused(path)


def test_what_the_manifest_lists_has_to_be_there(tiny_folder: Path, tmp_path: Path) -> None:
    pocketgpt.package(tiny_folder, tmp_path / "one.pocketgpt", ["q4"])
    with zipfile.ZipFile(tmp_path / "one.pocketgpt") as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    weights = "onnx/model_q4.onnx_data"
    for changes, says in (
        ({weights: None}, f"{weights} is missing"),
        ({weights: files[weights][:-1]}, f"{weights} has .* bytes, the manifest says"),
        ({"tokenizer.json": None}, "tokenizer.json is missing, or no file"),
        ({"config.json": None}, "config.json is missing"),
        ({"pocketgpt.json": None}, "has no pocketgpt.json"),
        ({"tokenizer.json": b"{"}, "tokenizer.json cannot be read"),
    ):
        mixed: dict[str, bytes | None] = {**files, **changes}
        kept = {name: content for name, content in mixed.items() if content is not None}
        (tmp_path / "model.pocketgpt").unlink(missing_ok=True)
        path = written(tmp_path / "model.pocketgpt", kept)
        with pytest.raises(ModelFolderError, match=says):
            pocketgpt.load(path)
