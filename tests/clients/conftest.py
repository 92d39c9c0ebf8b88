"""The bundled checkpoint, served by the command, for real clients; `make test-server`."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import pocketgpt

from ..conftest import ROOT

FOLDER = Path(os.environ.get("POCKETGPT_SERVED", ROOT / "build" / "pocket-tales"))
CHAT_TEMPLATE = "{% for m in messages %}{{ m['content'] }} {% endfor %}"


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with a chat template, its files linked."""
    for name in ("openai", "langchain_openai", "llm", "schemathesis"):
        pytest.importorskip(name, reason="run by `make test-server`")
    if not (FOLDER / "pocketgpt.json").exists():
        pytest.skip(f"{FOLDER} is not there: make test-server makes it")
    copy = tmp_path_factory.mktemp("served") / "tales"
    copy.mkdir()
    for path in FOLDER.rglob("*"):
        target = copy / path.relative_to(FOLDER)
        if path.is_dir():
            target.mkdir(exist_ok=True)
        else:
            target.write_bytes(path.read_bytes())
    (copy / "chat_template.jinja").write_text(CHAT_TEMPLATE)
    return copy


@pytest.fixture(scope="session")
def model(folder: Path) -> pocketgpt.Model:
    return pocketgpt.load(folder, "fp32", threads=1)


@pytest.fixture(scope="session")
def url(folder: Path) -> Iterator[str]:
    command = [sys.executable, "-m", "pocketgpt", "serve", str(folder), "--name", "tales"]
    flags = ["--port", "0", "--threads", "1", "--variant", "fp32"]
    with subprocess.Popen([*command, *flags], stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if line.startswith("serving "):
                yield line.split(" at ")[1].split("/v1")[0]
                break
        process.terminate()
