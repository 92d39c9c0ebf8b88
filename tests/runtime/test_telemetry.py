"""ONNX Runtime's telemetry is off: no file in HOME, nothing on standard error, forks that end."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

GENERATE = "import pocketgpt, sys; pocketgpt.load(sys.argv[1]).generate('A', max_new_tokens=2)"
FORK = """
import os, signal, sys
import pocketgpt
model = pocketgpt.load(sys.argv[1])
child = os.fork()
if child == 0:
    signal.alarm(20)
    model.generate("A", max_new_tokens=2)
    sys.exit(0)
print(os.waitpid(child, 0)[1])
"""
# What imports onnxruntime first, by any of the packages' modules.
IMPORTED = """
import importlib, os, sys
class Seen:
    def find_spec(self, name, path=None, target=None):
        if name == "onnxruntime":
            print(os.environ.get("ORT_DISABLE_TELEMETRY"))
sys.meta_path.insert(0, Seen())
importlib.import_module(sys.argv[1])
import onnxruntime
"""
SILENCED = ("ORT_DISABLE_TELEMETRY", "ORT_TELEMETRY_DISABLED", "CI")


def run(code: str, argument: str | Path, home: Path) -> subprocess.CompletedProcess[str]:
    """Run code in a process of a user to whom nothing but `home` belongs."""
    environment = {n: v for n, v in os.environ.items() if n not in SILENCED and "XDG" not in n}
    command = [sys.executable, "-W", "ignore", "-c", code, str(argument)]
    return subprocess.run(
        command,
        env={**environment, "HOME": str(home), "XDG_CACHE_HOME": str(home / ".cache")},
        capture_output=True,
        text=True,
        timeout=120,
    )


def test_no_file_is_written(tiny_folder: Path, tmp_path: Path) -> None:
    done = run(GENERATE, tiny_folder, tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert list(tmp_path.rglob("*")) == []


def test_a_home_that_cannot_be_written(tiny_folder: Path) -> None:
    done = run(GENERATE, tiny_folder, Path("/proc/nowhere"))
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
def test_a_forked_worker_ends(tiny_folder: Path, tmp_path: Path) -> None:
    done = run(FORK, tiny_folder, tmp_path)
    assert done.stdout.strip() == "0", done.stderr


@pytest.mark.parametrize(
    "module",
    [
        "pocketgpt",
        "pocketgpt.engine.threads",
        "pocketgpt_quantize.observe.calibration",
        "pocketgpt_export.graph.trace_portable",
    ],
)
def test_it_is_off_before_onnxruntime_is_imported(module: str, tmp_path: Path) -> None:
    done = run(IMPORTED, module, tmp_path)
    assert done.stdout.splitlines() == ["1"], done.stderr
