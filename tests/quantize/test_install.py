"""Installing variants: killed at any moment, a folder holds the old ones or the new, whole."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import pocketgpt
from pocketgpt.folder.atomic import os_error_line, staging_folder
from pocketgpt.folder.file_record import sha256
from pocketgpt.folder.manifest import read_manifest, variant_path, write_manifest
from pocketgpt.folder.neighbours import NEIGHBOURS, neighbours_of, write_neighbours
from pocketgpt.folder.verification import verify_files
from pocketgpt_quantize import install as module
from pocketgpt_quantize import quantize
from pocketgpt_quantize.install import install

from ..conftest import contents

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="SIGKILL")

# Installs again and again, each time in a process that is killed at the next thing it asks of the
# system, until one gets to its end; what each has left is in a folder by its number.
INSTALL = """
import os, shutil, signal, sys
from pathlib import Path
from pocketgpt.folder.manifest import read_manifest
import pocketgpt_quantize.install as module

old, new, root, exchange = *map(Path, sys.argv[1:4]), sys.argv[4]
if exchange == "False":
    module.exchange = lambda one, other: False
manifest = read_manifest(new)
names = [name for name in manifest.variants if name != "fp32"]
variants = {name: manifest.variants[name] for name in names}
ASKED = ("open", "os.rename", "os.link", "os.mkdir", "os.remove", "os.chmod", "ctypes.dlsym")
asked = 0

def ask(event, arguments):
    global asked
    if event in ASKED:
        asked += 1
        if asked == moment:
            os.kill(os.getpid(), signal.SIGKILL)

for moment in range(1, 1000):
    folder = root / str(moment)
    shutil.copytree(old, folder)
    staging = folder / ".variants.partial-killed"
    (staging / "onnx").mkdir(parents=True)
    graphs = [manifest.variants["fp32"].int8_cache.graph]
    for record in sum((variant.all_files for variant in variants.values()), tuple(graphs)):
        shutil.copyfile(new / record.path, staging / record.path)
    child = os.fork()
    if child == 0:
        sys.addaudithook(ask)
        text = manifest.evaluation_sha256
        module.install(staging, folder, manifest.variants["fp32"], variants, text)
        os._exit(0)
    status = os.waitpid(child, 0)[1]
    if status == 0:
        break
    assert status == signal.SIGKILL, status
"""


@pytest.fixture(scope="module")
def old_and_new(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A folder with int8, and the same with another int8, of the same size, and a q4."""
    root = tmp_path_factory.mktemp("install")
    new, old = (Path(shutil.copytree(tiny_folder, root / name)) for name in ("new", "old"))
    forget(old, "q4")
    text = new / "calibration.txt"
    text.write_text(text.read_text("utf-8").upper(), "utf-8")
    quantize(new, ["int8"], accept_loss=True)
    sizes = [[r.bytes for r in read_manifest(f).variants["int8"].files] for f in (new, old)]
    assert sizes[0] == sizes[1]
    assert read_manifest(new).variants["int8"] != read_manifest(old).variants["int8"]
    return old, new


def forget(folder: Path, name: str) -> None:
    before = read_manifest(folder)
    for record in before.variants[name].files:
        (folder / record.path).unlink()
    fewer = {other: variant for other, variant in before.variants.items() if other != name}
    write_manifest(folder, write_neighbours(folder, replace(before, variants=fewer), [before]))


def staged(new: Path, staging: Path) -> Path:
    """Return a staging folder with the new variants' files, as `quantize` makes it."""
    (staging / "onnx").mkdir(parents=True)
    variants = read_manifest(new).variants
    cache = variants["fp32"].int8_cache
    assert cache is not None
    for record in (cache.graph, *variants["int8"].all_files, *variants["q4"].all_files):
        shutil.copyfile(new / record.path, staging / record.path)
    return staging


def hashes(folder: Path, name: str) -> list[str]:
    """The variant's two files as they are, not as the manifest says."""
    path = folder / variant_path(name)
    return [sha256(path), sha256(path.with_name(f"{path.name}_data"))]


@pytest.fixture(params=[True, False], ids=["exchange", "no exchange"])
def exchange(request: pytest.FixtureRequest) -> bool:
    value: bool = request.param
    return value


def test_killed_at_every_moment(
    old_and_new: tuple[Path, Path], tmp_path: Path, exchange: bool
) -> None:
    old, new = old_and_new
    wholes = {
        name: [read_manifest(f).variants.get(name) for f in old_and_new] for name in ("int8", "q4")
    }
    command = [sys.executable, "-c", INSTALL, old, new, tmp_path, str(exchange)]
    done = subprocess.run([*map(str, command)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    outcomes = set()
    folders = sorted(tmp_path.iterdir(), key=lambda folder: int(folder.name))
    for folder in folders:
        variants = read_manifest(folder).variants
        assert next(iter(variants)) == "fp32"
        for name in set(variants) - {"fp32"}:
            assert variants[name] in wholes[name]
            assert [record.sha256 for record in variants[name].files] == hashes(folder, name)
        assert verify_files(folder).failures == ()
        assert json.loads((folder / "manifest.json").read_text("utf-8"))["components"]
        if exchange:  # otherwise it is left out for a while
            assert "int8" in variants
        outcomes.add(str(variants["int8"] == wholes["int8"][1]) if "int8" in variants else "")
    assert len(folders) > 15
    assert outcomes == ({"True", "False"} if exchange else {"True", "False", ""})
    assert (read_manifest(folder).variants["q4"], list(folder.glob("pocketgpt.json*"))) == (
        wholes["q4"][1],
        [folder / "pocketgpt.json"],
    )
    for name, text in neighbours_of(folder, read_manifest(folder)).items():
        assert (folder / name).read_text("utf-8") == text, name
    assert "installing" not in json.loads((folder / "pocketgpt.json").read_text("utf-8"))
    assert pocketgpt.load(folder, "int8", verify=True).generate("A").text


def test_quantizing_again_after_a_kill(old_and_new: tuple[Path, Path], tmp_path: Path) -> None:
    """Of the killed one links to the weights are left, which onnx_ir takes for an attack."""
    old, _ = old_and_new
    folder = Path(shutil.copytree(old, tmp_path / "model"))
    leftover = folder / ".variants.partial-killed" / "onnx"
    leftover.mkdir(parents=True)
    for path in (folder / "onnx").iterdir():
        os.link(path, leftover / path.name)
    quantize(folder, ["int8"], accept_loss=True)
    assert [*folder.glob(".*")] == []
    assert {path.stat().st_nlink for path in (folder / "onnx").iterdir()} == {1}


def test_what_other_runtimes_read_is_renewed_after_any_kill(
    old_and_new: tuple[Path, Path], tmp_path: Path
) -> None:
    """Wherever a kill left the files, the next installation knows them for ours."""
    old, new = old_and_new
    killed = tmp_path / "killed"
    killed.mkdir()
    command = [sys.executable, "-c", INSTALL, old, new, killed, "True"]
    subprocess.run([*map(str, command)], check=True, capture_output=True)
    manifest = read_manifest(new)
    variants = dict(without_fp32(new))
    expected = contents(max(killed.iterdir(), key=lambda folder: int(folder.name)))
    for folder in killed.iterdir():
        with staging_folder(folder / "variants") as staging:
            text = manifest.evaluation_sha256
            assert text is not None
            install(staged(new, staging), folder, manifest.variants["fp32"], variants, text)
        found = contents(folder)
        for name in ("config.json", "pocketgpt.json", *NEIGHBOURS):
            assert found[name] == expected[name], (folder, name)


@pytest.mark.parametrize("failing", ["write_manifest", "_move", "write_text"])
def test_a_failure_leaves_what_is_whole(
    old_and_new: tuple[Path, Path],
    tmp_path: Path,
    failing: str,
    exchange: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    old, new = old_and_new

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    folder = Path(shutil.copytree(old, tmp_path / "model"))
    manifest = read_manifest(new)
    variants = {name: manifest.variants[name] for name in ("int8", "q4")}
    monkeypatch.setattr(module, failing, full)
    if not exchange:
        monkeypatch.setattr(module, "exchange", lambda *_: False)
    elif failing == "_move":
        pytest.skip("nothing is moved")
    with staging_folder(folder / "variants") as staging:
        staged(new, staging)
        with pytest.raises(OSError, match="No space"):
            install(staging, folder, manifest.variants["fp32"], variants, 64 * "0")
    monkeypatch.undo()
    assert verify_files(folder).failures == ()
    assert pocketgpt.load(folder, verify=True).generate("A").text


def test_other_files_stay_what_they_are(old_and_new: tuple[Path, Path], tmp_path: Path) -> None:
    """Also what the user has put beside, in folders and as links; the model folder is the same."""
    old, new = old_and_new
    folder = Path(shutil.copytree(old, tmp_path / "model"))
    (folder / "onnx" / "mine").mkdir()
    (folder / "onnx" / "mine" / "notes.txt").write_text("notes", "utf-8")
    (folder / "onnx" / "link").symlink_to("model.onnx")
    (folder / "onnx").chmod(0o750)
    inode, weights = folder.stat().st_ino, (folder / "onnx" / "model.onnx_data").stat().st_ino
    manifest = read_manifest(new)
    with staging_folder(folder / "variants") as staging:
        staged(new, staging)
        install(staging, folder, manifest.variants["fp32"], dict(without_fp32(new)), 64 * "0")
    assert (folder / "onnx" / "mine" / "notes.txt").read_text("utf-8") == "notes"
    assert (folder / "onnx" / "link").readlink() == Path("model.onnx")
    assert (folder / "onnx").stat().st_mode & 0o777 == 0o750
    assert folder.stat().st_ino == inode
    assert (folder / "onnx" / "model.onnx_data").stat().st_ino == weights
    assert hashes(folder, "int8") == hashes(new, "int8")


def without_fp32(folder: Path) -> Iterator[tuple[str, Any]]:
    variants = read_manifest(folder).variants
    return ((name, variant) for name, variant in variants.items() if name != "fp32")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="Linux's device that is always full")
def test_numpys_word_for_a_full_disk_is_explained(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="requested and") as caught, Path("/dev/full").open("wb") as f:
        np.ones(99_999, np.float32).tofile(f)
    said = os_error_line(caught.value, tmp_path / "model")
    assert said.startswith(f"{tmp_path / 'model'} cannot be written: only a part was, is the disk")
