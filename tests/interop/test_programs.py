"""Every program on the model card and on docs/interop.md runs as it stands, and says the same."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from ..conftest import ROOT
from .conftest import FUSED, ours
from .node import MODULES, node_program

PAGE = ROOT / "docs" / "interop.md"
PROGRAM = re.compile(r"^```(python|js)\n(.*?)^```", re.M | re.S)
TOKENS = 40  # new ones, in every program


def programs(path: Path) -> list[tuple[str, str]]:
    return PROGRAM.findall(path.read_text("utf-8")) if path.is_file() else []


def run(language: str, code: str, scratch: Path) -> str:
    """Run a program as somebody would who has copied it: where the folder's files are."""
    folder = Path(shutil.copytree(FUSED, scratch / "model", copy_function=os.link))
    if language == "python":
        command = [sys.executable, "-W", "ignore", "-c", code]
    else:
        (scratch / "node_modules").symlink_to(MODULES)
        (scratch / "program.mjs").write_text(code, "utf-8")
        command = [str(node_program()), "../program.mjs"]
    away = {"HF_HUB_OFFLINE": "1", "ORT_DISABLE_TELEMETRY": "1"}
    done = subprocess.run(
        command,
        cwd=folder,
        env={**os.environ, **away},
        capture_output=True,
        text=True,
        encoding="utf-8",
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


@pytest.mark.parametrize("place", range(5), ids=lambda place: f"program {place}")
def test_the_card(fused: Path, tmp_path: Path, place: int) -> None:
    found = programs(fused / "README.md")
    assert len(found) == 5
    language, code = found[place]
    text = ours(FUSED, "int8").generate("Once upon a time", max_new_tokens=TOKENS).text
    assert text.strip() in run(language, code, tmp_path)


@pytest.mark.parametrize(("language", "code"), programs(PAGE), ids=range(len(programs(PAGE))))
def test_the_page(tmp_path: Path, language: str, code: str) -> None:
    text = ours(FUSED, "int8").generate("Once upon a time", max_new_tokens=TOKENS).text
    assert text.strip() in run(language, code, tmp_path)


def test_the_page_has_a_program_for_each() -> None:
    assert len(programs(PAGE)) == 6
