"""An export that is killed at any moment leaves the target as it was."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from pocketgpt.folder.atomic import staging_folder
from pocketgpt.folder.install import install
from pocketgpt_export import export

from ..conftest import contents

MOMENTS = 20
# Says when it begins, so that the moments fall into the export and not into imports.
EXPORT = """
import sys
from pocketgpt_export import export
print("ready", flush=True)
export(sys.argv[1], sys.argv[2], overwrite=True)
"""
# Where every file may grow to so many bytes alone, as on a disk that fills half way.
EXPORT_ON_A_FULL_DISK = """
import resource, signal, sys
from pocketgpt.cli import main
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (40_000, 40_000))
sys.argv = ["pocketgpt", "export", *sys.argv[1:]]
main()
"""


def export_until(checkpoint: Path, target: Path, moment: float, kind: signal.Signals) -> int:
    """Export in a process of its own and end it after so many seconds; return its exit status."""
    process = subprocess.Popen(
        [sys.executable, "-c", EXPORT, str(checkpoint), str(target)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    assert process.stdout is not None
    with process.stdout:
        assert process.stdout.readline() == b"ready\n"
        try:
            return process.wait(timeout=moment)
        except subprocess.TimeoutExpired:
            process.send_signal(kind)
            return process.wait()


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="signals")
@pytest.mark.parametrize("kind", [signal.SIGKILL, signal.SIGINT])
def test_killed_at_random_moments(
    kind: signal.Signals, make_checkpoint: Callable[..., Path], tmp_path: Path
) -> None:
    """What SIGKILL leaves is hidden, and the next export removes it; SIGINT leaves nothing."""
    old, new = make_checkpoint("old", n_layer=1), make_checkpoint("new", n_layer=2)
    target = tmp_path / "models" / "target"
    export(old, target)
    before = contents(target)
    started = time.monotonic()
    export(new, tmp_path / "models" / "other")
    duration = time.monotonic() - started
    interrupted = 0
    for moment in np.random.default_rng(0).uniform(0, duration, MOMENTS // 2):
        status = export_until(new, target, float(moment), kind)
        if status == 0:  # it was done before the moment came
            assert len(contents(target)) == len(before)
            export(old, target, overwrite=True)
            continue
        interrupted += 1
        assert contents(target) == before
        beside = {path.name for path in target.parent.iterdir()} - {"target", "other"}
        assert all(name.startswith(".target.partial-") for name in beside)
        assert kind is signal.SIGKILL or beside == set()
    assert interrupted > 0
    export(old, target, overwrite=True)
    assert {path.name for path in target.parent.iterdir()} == {"target", "other"}


@pytest.mark.skipif(sys.platform == "win32", reason="no such limit")
def test_full_disk(make_checkpoint: Callable[..., Path], tmp_path: Path) -> None:
    """One line, and the target as it was: missing, or the older model."""
    checkpoint, target = make_checkpoint(), tmp_path / "models" / "target"
    command = [sys.executable, "-c", EXPORT_ON_A_FULL_DISK, str(checkpoint), str(target)]
    before: dict[str, bytes] = {}
    for further in ([], ["--overwrite"]):
        done = subprocess.run([*command, *further], capture_output=True, text=True)
        assert done.returncode == 1
        last = done.stderr.strip().splitlines()[-1]
        assert last.startswith(f"error: {target} cannot be written: ")
        assert "Traceback" not in done.stderr
        assert contents(target.parent) == before
        export(checkpoint, target, overwrite=True)
        before = contents(target.parent)


def test_staging_removes_what_a_killed_process_left(tmp_path: Path) -> None:
    """A living process's folder stays: it holds a lock on it."""
    target = tmp_path / "model"
    dead, alien = tmp_path / ".model.partial-dead", tmp_path / ".other.partial-dead"
    for folder in (dead, alien):
        (folder / "onnx").mkdir(parents=True)
    with staging_folder(target) as first:
        assert not dead.exists()
        with staging_folder(target) as second:
            assert first.is_dir()
            assert second.is_dir()
        assert not second.exists()
    assert [path.name for path in tmp_path.iterdir()] == [alien.name]


@pytest.mark.parametrize("exchange", [True, False])
def test_install_swaps_two_folders(
    exchange: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not exchange:  # as on a system that cannot
        monkeypatch.setattr("pocketgpt.folder.install.exchange", lambda *_: False)
    new, old = tmp_path / "new", tmp_path / "old"
    for folder in (new, old):
        folder.mkdir()
        (folder / "name").write_text(folder.name, "ascii")
    install(new, old)
    assert (old / "name").read_text("ascii") == "new"
    assert (new / "name").read_text("ascii") == "old"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["new", "old"]


def test_install_puts_the_old_folder_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pocketgpt.folder.install.exchange", lambda *_: False)
    rename = Path.rename

    def refuse(path: Path, target: Path) -> Path:
        if path.name == "new":
            raise OSError("held open")
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", refuse)
    new, old = tmp_path / "new", tmp_path / "old"
    new.mkdir()
    old.mkdir()
    (old / "name").write_text("old", "ascii")
    with pytest.raises(OSError, match="held open"):
        install(new, old)
    assert (old / "name").read_text("ascii") == "old"
