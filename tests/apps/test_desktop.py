"""examples/desktop: one program, in an empty environment, says what Python says."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from .conftest import PROMPTS, ROOT, Greedy

PROGRAM = ROOT / "build" / "desktop" / "tales"
BUILDER = ROOT / ".venv-desktop" / "bin" / "python"
MOST = 70_000_000  # bytes
TOKENS = 40


def run(*arguments: str, **options: object) -> subprocess.CompletedProcess[str]:
    """Run the program with nothing in its environment, no Python on its PATH."""
    done: subprocess.CompletedProcess[str] = subprocess.run(
        [PROGRAM, *arguments],
        env={},
        cwd="/",
        capture_output=True,
        text=True,
        encoding="utf-8",
        **options,  # type: ignore[call-overload]
    )
    return done


@pytest.fixture(scope="module")
def contents() -> list[str]:
    """The names of the files inside the program."""
    code = (
        "import sys; from PyInstaller.archive.readers import CArchiveReader; "
        "print(*CArchiveReader(sys.argv[1]).toc, sep='\\n')"
    )
    done = subprocess.run(
        [BUILDER, "-c", code, PROGRAM], capture_output=True, text=True, check=True
    )
    return done.stdout.splitlines()


@pytest.mark.parametrize("prompt", PROMPTS)
def test_its_greedy_text_is_python_s(greedy: Greedy, prompt: str) -> None:
    done = run(prompt, "--greedy", "--tokens", str(TOKENS))
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"{prompt}{greedy('q4', prompt, TOKENS, 'auto').text}\n"


def test_it_asks_where_no_prompt_is_given(greedy: Greedy) -> None:
    done = run("--greedy", "--tokens", "20", input="The wolf\n")
    assert (done.returncode, done.stderr) == (0, "")
    expected = greedy("q4", "The wolf", 20, "auto").text
    assert done.stdout == f"How does it begin? The wolf{expected}\nHow does it begin? \n"


def test_it_is_small(contents: list[str]) -> None:
    assert PROGRAM.stat().st_size < MOST
    names = [Path(name).name for name in contents]
    assert any(name.startswith("onnxruntime_pybind11_state") for name in names)
    assert [name for name in names if name.startswith("libonnxruntime.so")] == []
    assert [name for name in contents if "torch" in name or "sympy" in name] == []


def test_the_wheel_still_holds_what_is_dropped() -> None:
    """Where it no longer does, the hook has nothing to do."""
    folder = next((ROOT / ".venv-desktop").glob("lib/python3*/site-packages/onnxruntime/capi"))
    assert list(folder.glob("libonnxruntime.so.*"))
