"""examples/node: its text is Python's."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from .conftest import FOLDER, PROMPTS, ROOT, Greedy

NODE = ROOT / ".venv-apps" / "bin" / "node"
SCRIPT = ROOT / "examples" / "node" / "complete.js"
TOKENS = 40


@pytest.fixture(scope="module")
def script(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The script beside its packages, as `npm install` would leave them."""
    folder = tmp_path_factory.mktemp("node")
    for name in ("complete.js", "package.json"):
        shutil.copyfile(SCRIPT.with_name(name), folder / name)
    (folder / "node_modules").symlink_to(ROOT / "build" / "npm" / "node" / "node_modules")
    return folder / "complete.js"


@pytest.mark.parametrize("variant", ["fp32", "int8", "q8", "q4"])
def test_its_text_is_python_s(script: Path, greedy: Greedy, variant: str) -> None:
    """q4's on one prompt: elsewhere a near tie may fall otherwise, as its tolerance allows."""
    for prompt in PROMPTS[:1] if variant == "q4" else PROMPTS:
        command = [str(NODE), str(script), str(FOLDER), prompt, str(TOKENS), variant]
        done = subprocess.run(
            command, capture_output=True, text=True, encoding="utf-8", env={**os.environ}
        )
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout == f"{prompt}{greedy(variant, prompt, TOKENS).text}\n"


def test_it_is_short() -> None:
    assert len(SCRIPT.read_text("utf-8").splitlines()) <= 30
