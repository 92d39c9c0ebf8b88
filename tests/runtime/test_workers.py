"""Worker processes, as docs/embedding.md says: fork first, or load with one thread and keep still."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
from pathlib import Path

import pytest

import pocketgpt

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")

PROMPT = "The keeper"
FORKED = """
import os, signal, sys
import pocketgpt

folder, loaded_by, threads = sys.argv[1], sys.argv[2], int(sys.argv[3])

def text(model):
    return model.generate("The keeper", max_new_tokens=6).text

if loaded_by == "parent":
    model = pocketgpt.load(folder, "fp32", threads=threads)
reads, writes = os.pipe()
child = os.fork()
if child == 0:
    signal.alarm(30)
    if loaded_by == "child":
        model = pocketgpt.load(folder, "fp32", threads=threads)
    os.write(writes, text(model).encode())
    sys.exit(0)  # with all that Python does at its end
os.close(writes)
with open(reads, "rb") as said:
    found = said.read().decode()
print(os.waitpid(child, 0)[1])
if loaded_by == "parent":
    assert text(model) == found
print(found, end="")
"""


@pytest.mark.parametrize(("loaded_by", "threads"), [("child", 1), ("child", 2), ("parent", 1)])
def test_a_forked_worker(
    loaded_by: str, threads: int, tiny_folder: Path, tiny: pocketgpt.Model
) -> None:
    """It gives the same tokens and comes to an end, with Python's own way to leave."""
    command = [sys.executable, "-W", "ignore", "-c", FORKED]
    done = subprocess.run(
        [*command, str(tiny_folder), loaded_by, str(threads)],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    status, _, found = done.stdout.partition("\n")
    assert status == "0"
    assert found == tiny.generate(PROMPT, max_new_tokens=6).text


_opened: pocketgpt.Model | None = None


def _open(folder: Path) -> None:
    global _opened
    _opened = pocketgpt.load(folder, "fp32", threads=2)


def _text(prompt: str) -> str:
    assert _opened is not None
    return _opened.generate(prompt, max_new_tokens=6).text


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")  # this process has threads
def test_a_pool_that_loads_in_its_workers(tiny_folder: Path, tiny: pocketgpt.Model) -> None:
    with multiprocessing.get_context("fork").Pool(2, _open, (tiny_folder,)) as pool:
        assert pool.map(_text, [PROMPT] * 4) == [tiny.generate(PROMPT, max_new_tokens=6).text] * 4
