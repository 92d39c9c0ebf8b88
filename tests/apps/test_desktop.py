"""examples/desktop: one program, where there is no Python; its text is Python's, its window works.

`make test-desktop` builds it first, as one file and as a folder. The window is shown to Xvfb.
"""

from __future__ import annotations

import os
import runpy
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from PyInstaller.archive.readers import CArchiveReader

import pocketgpt

from .conftest import FOLDER, PROMPTS, ROOT, Greedy

BUILT = ROOT / "build" / "desktop"
TOKENS = 40
PATIENCE = 60  # seconds
GREEDY = ("--temperature", "0", "--tokens", str(TOKENS))


@pytest.fixture(params=["file", "folder"])
def program(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """The program, put somewhere else than where it was built."""
    if request.param == "folder":
        shutil.copytree(BUILT / "folder" / "tales", tmp_path / "app", symlinks=True)
        return tmp_path / "app" / "tales"
    return Path(shutil.copy(BUILT / "file" / "tales", tmp_path))


@pytest.fixture
def bare(tmp_path: Path) -> dict[str, str]:
    """An environment without Python, and with settings that would mislead one."""
    (tmp_path / "empty").mkdir()
    nowhere = str(tmp_path / "empty")
    return {"PATH": nowhere, "HOME": nowhere, "TMPDIR": nowhere, "PYTHONHOME": "/nowhere"}


def run(
    program: Path, *arguments: str, env: dict[str, str], **options: Any
) -> tuple[int, str, str]:
    done = subprocess.run(
        [program, *arguments], env=env, capture_output=True, timeout=PATIENCE, **options
    )
    return done.returncode, done.stdout.decode("utf-8"), done.stderr.decode("utf-8")


def test_its_tokens_are_python_s(program: Path, bare: dict[str, str], greedy: Greedy) -> None:
    """And when it has ended, nothing lies around: not in HOME, not where it unpacked itself."""
    for prompt in PROMPTS:
        ids = " ".join(map(str, greedy("int8", prompt, TOKENS, "auto").token_ids))
        assert run(program, prompt, *GREEDY, "--ids", env=bare) == (0, f"{ids}\n", "")
    assert list(Path(bare["HOME"]).iterdir()) == []


def test_text_is_streamed_and_may_be_piped_in(
    program: Path, bare: dict[str, str], greedy: Greedy
) -> None:
    prompt = PROMPTS[-1]
    expected = greedy("int8", prompt, TOKENS, "auto").text
    with subprocess.Popen(
        [program, "-", *GREEDY],
        env=bare,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        start_new_session=True,
    ) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        try:
            child.stdin.write(f"{prompt}\n".encode())
            child.stdin.close()
            chunks = list(iter(partial(os.read, child.stdout.fileno(), 4096), b""))
        finally:
            stop(child)
    assert b"".join(chunks).decode("utf-8") == f"{expected}\n"
    assert len(chunks) > 1


def test_the_same_seed_draws_the_same_text(program: Path, bare: dict[str, str]) -> None:
    one, two, other = (
        run(program, "The wolf", "--seed", seed, "--tokens", "20", env=bare) for seed in "778"
    )
    assert one == two != other


def test_bad_input_is_one_line(program: Path, bare: dict[str, str]) -> None:
    code, out, err = run(program, "The wolf", "--temperature", "-1", env=bare)
    assert (code, out, err.count("\n")) == (1, "", 1)
    assert err.startswith("tales: temperature")
    code, out, err = run(program, env=bare)  # no DISPLAY
    assert (code, out, err.count("\n")) == (1, "", 1)
    assert err.startswith("tales: no window")


def test_it_is_small_and_holds_nothing_for_nobody() -> None:
    file = BUILT / "file" / "tales"
    assert file.stat().st_size < 70e6
    archive = CArchiveReader(str(file))
    modules = archive.open_embedded_archive("PYZ.pyz").toc
    assert {"pocketgpt.model", "onnxruntime.capi._pybind_state"} <= set(modules)
    tops = {name.split(".")[0] for name in modules}
    assert tops & {"huggingface_hub", "pocketgpt_export", "typer", "yaml", "onnx", "torch"} == set()
    tools = ("tools", "quantization", "transformers", "backend", "datasets")
    unwanted = tuple(f"onnxruntime.{name}" for name in tools)
    assert [name for name in modules if name.startswith(unwanted)] == []
    files = [Path(name) for name in archive.toc]
    assert [file for file in files if file.name.startswith("libonnxruntime.")] == []
    # Licences are shipped with what they are of.
    assert Path("onnxruntime/ThirdPartyNotices.txt") in files
    assert any(file.match("numpy-*/licenses/LICENSE.txt") for file in files)


def test_the_hook_drops_the_second_library_alone() -> None:
    hook = runpy.run_path(
        str(ROOT / "runtime" / "pocketgpt" / "_pyinstaller" / "hook-onnxruntime.py")
    )
    names = ["libonnxruntime.so.1.32.0", "libonnxruntime.so", "libonnxruntime.1.27.0.dylib"]
    kept = ["libonnxruntime_providers_shared.so", "onnxruntime_providers_cuda.dll"]
    given = [(f"/site/onnxruntime/capi/{name}", "onnxruntime/capi") for name in names + kept]
    assert hook["without_twice"](given) == given[len(names) :]


@pytest.fixture
def screen() -> Iterator[str]:
    """An X server of its own, with nothing on it; yields its DISPLAY."""
    if not (shutil.which("Xvfb") and shutil.which("xdotool")):
        pytest.skip("no window without a screen: apt-get install xvfb xdotool")
    command = ["Xvfb", "-displayfd", "1", "-screen", "0", "1000x700x24", "-nolisten", "tcp"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as server:
        assert server.stdout is not None
        try:
            yield f":{server.stdout.readline().decode().strip()}"
        finally:
            server.terminate()


def test_the_window_writes_on(
    screen: str, program: Path, bare: dict[str, str], greedy: Greedy
) -> None:
    """Typed, written on, and copied, as a user would."""
    pytest.importorskip("tkinter")
    prompt = "The wolf"
    expected = prompt + greedy("int8", prompt, TOKENS, "auto").text

    def copied() -> str:
        xdo(screen, "key", "ctrl+a", "ctrl+c")
        return clipboard(screen)

    env = {**bare, "DISPLAY": screen}
    with subprocess.Popen([program, *GREEDY], env=env, start_new_session=True) as child:
        try:
            xdo(screen, "search", "--sync", "--onlyvisible", "--name", "^Tales$", "windowfocus")
            eventually(lambda: xdo(screen, "getwindowfocus", "getwindowname") == "Tales")
            xdo(screen, "type", "--delay", "20", prompt)
            eventually(lambda: copied() == prompt)

            def wrote() -> bool:
                xdo(screen, "key", "ctrl+Return")  # does nothing until the model is open
                time.sleep(1)
                return copied() != prompt

            eventually(wrote)
            eventually(lambda: copied().startswith(expected))
            assert child.poll() is None
        finally:
            stop(child)


STOPPED = """
import sys
from pathlib import Path
from window import Window

window = Window(Path(sys.argv[1]), 800, 0.0)

def begin():
    if str(window.button["state"]) == "disabled":  # the model is being opened
        return window.root.after(10, begin)
    window.page.insert("end", "The wolf")
    window.write()
    window.root.after(10, stop)

def stop():
    if window.page.get("1.0", "end-1c") == "The wolf":
        return window.root.after(10, stop)
    window.stop()
    window.root.after(10, end)

def end():
    if window.status["text"] == "writing":
        return window.root.after(10, end)
    print(window.page.get("1.0", "end-1c"), end="")
    window.close()

window.root.after(0, begin)
window.run()
"""


def test_stop_ends_a_text(screen: str) -> None:
    pytest.importorskip("tkinter")
    done = subprocess.run(
        [sys.executable, "-c", STOPPED, str(FOLDER)],
        env={
            **os.environ,
            "DISPLAY": screen,
            "PYTHONUTF8": "1",
            "PYTHONPATH": str(ROOT / "examples" / "desktop"),
        },
        capture_output=True,
        encoding="utf-8",
        timeout=PATIENCE,
    )
    assert (done.returncode, done.stderr) == (0, "")
    with_all = "The wolf" + pocketgpt.load(FOLDER).generate("The wolf", max_new_tokens=800).text
    assert len("The wolf") < len(done.stdout) < len(with_all)
    assert with_all.startswith(done.stdout)


def stop(child: subprocess.Popen[bytes]) -> None:
    """Kill it and what it started: the one file is two processes."""
    with suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGKILL)


def xdo(screen: str, *arguments: str) -> str:
    """Run xdotool on the screen."""
    done = subprocess.run(
        ["xdotool", *arguments],
        env={**os.environ, "DISPLAY": screen},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    return done.stdout.strip()


def clipboard(screen: str) -> str:
    """Return what was copied; tkinter cannot outlive its screen, so a process of its own asks."""
    done = subprocess.run(
        [sys.executable, "-c", "import tkinter; print(tkinter.Tk().clipboard_get(), end='')"],
        env={**os.environ, "DISPLAY": screen, "PYTHONUTF8": "1"},
        capture_output=True,
        encoding="utf-8",
        timeout=PATIENCE,
    )
    return done.stdout


def eventually(holds: Callable[[], bool]) -> None:
    end = time.monotonic() + PATIENCE
    while not holds():
        assert time.monotonic() < end, "the window never got there"
        time.sleep(0.1)
