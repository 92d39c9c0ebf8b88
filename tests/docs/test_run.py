"""Every page's examples, run in order: `make test-docs`.

A block of sh runs in bash, one of python in the page's own namespace, as a doctest where it has
prompts. A block of text right below is what was printed, `...` for anything. What is not run says
so, and why, in a comment above the block.
"""

from __future__ import annotations

import contextlib
import doctest
import io
import os
import subprocess
import sys
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from ..conftest import ROOT
from .conftest import Prepare
from .markdown import Block, begins_with, blocks, name_of, pages

pytestmark = pytest.mark.docs

LONGEST = 900  # seconds that a block of commands may take
FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
SOURCES = os.pathsep.join(str(ROOT / name) for name in ("runtime", "exporter", "quantize"))


def to_run(page: Path) -> list[Block]:
    return [block for block in blocks(page) if block.language != "text" and not block.not_run]


RUN = [page for page in pages() if to_run(page) and not page.name.endswith(".zh-CN.md")]


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """Commands by their names, of this checkout; whatever a page installs is left alone."""
    programs = tmp_path / "bin"
    programs.mkdir()
    for name, command in {"pocketgpt": "-m pocketgpt", "python": "", "python3": ""}.items():
        script = f'#!/bin/sh\nPYTHONPATH="{SOURCES}" exec "{sys.executable}" {command} "$@"\n'
        (programs / name).write_text(script)
        (programs / name).chmod(0o755)
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    return {**kept, "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}", "COLUMNS": "100"}


@pytest.mark.parametrize("page", RUN, ids=name_of)
def test_the_page_runs(
    page: Path,
    clone: Path,
    prepare: Prepare,
    environment: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(clone)
    for name in begins_with(page):
        prepare(name)
    names: dict[str, Any] = {"__name__": "__page__"}
    for block, printed in with_output(blocks(page)):
        where = f"{name_of(page)}:{block.line}"
        if block.saved_as:
            Path(block.saved_as).write_text(block.text, "utf-8")
        elif block.language == "sh":
            out = run_commands(block.text, environment, where)
        elif ">>>" in block.text:
            run_doctest(block.text, names, where)
        else:
            out = run_python(block.text, names, where)
        if printed is not None:
            assert not block.saved_as
            if not doctest.OutputChecker().check_output(printed, out, FLAGS):
                pytest.fail(f"{where} printed\n{out}\nand not\n{printed}")


def with_output(every: list[Block]) -> Iterator[tuple[Block, str | None]]:
    """Yield the blocks to run, each with what the page says that it prints, if it does."""
    for block, below in pairwise([*every, Block("", "", 0)]):
        if block.language != "text" and not block.not_run:
            yield block, below.text if below.language == "text" else None


def run_commands(commands: str, environment: dict[str, str], where: str) -> str:
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", commands],
        env=environment,
        capture_output=True,
        text=True,
        timeout=LONGEST,
    )
    if done.returncode:
        pytest.fail(f"{where} ended with {done.returncode}:\n{commands}\n{done.stderr[-4000:]}")
    return done.stdout


def run_python(code: str, names: dict[str, Any], where: str) -> str:
    with contextlib.redirect_stdout(io.StringIO()) as out:
        exec(compile(code, where, "exec"), names)
    return out.getvalue()


def run_doctest(code: str, names: dict[str, Any], where: str) -> None:
    """Run prompts and compare; the names that they make are there for what follows."""
    example = doctest.DocTestParser().get_doctest(code, names, where, where, 0)
    example.globs = names
    report = io.StringIO()
    failed = doctest.DocTestRunner(optionflags=FLAGS).run(
        example, out=report.write, clear_globs=False
    )
    assert failed.failed == 0, report.getvalue()
