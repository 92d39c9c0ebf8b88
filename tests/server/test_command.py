"""`pocketgpt serve` as a process: it says where, answers, and ends when told to."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import pocketgpt

from ..conftest import Cli

Serve = Callable[..., tuple[str, "subprocess.Popen[str]"]]


@pytest.fixture
def serve(tiny_folder: Path) -> Iterator[Serve]:
    """Start the command on a free port; return the URL once it serves, and the process."""
    begun: list[subprocess.Popen[str]] = []

    def start(*arguments: object, **environment: str) -> tuple[str, subprocess.Popen[str]]:
        command = [sys.executable, "-m", "pocketgpt", "serve", tiny_folder, "--port", 0]
        process = subprocess.Popen(
            [*map(str, command), "--threads", "1", *map(str, arguments)],
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, **environment},
        )
        begun.append(process)
        assert process.stderr is not None
        for line in process.stderr:
            if line.startswith("serving "):
                return line.split(" at ")[1].split("/v1")[0], process
        raise AssertionError(process.wait())

    yield start
    for process in begun:
        if process.poll() is None:
            process.kill()
        process.communicate()


def ask(url: str, path: str = "/v1/completions", key: str | None = None, **fields: Any) -> Any:
    headers = {"content-type": "application/json"}
    if key:
        headers["authorization"] = f"Bearer {key}"
    body = json.dumps(fields).encode() if fields else None
    request = urllib.request.Request(url + path, body, headers)
    with urllib.request.urlopen(request, timeout=30) as response:
        return json.loads(response.read())


def test_it_serves_variants_by_name_with_keys_and_ends_by_a_signal(
    serve: Serve, tiny: pocketgpt.Model, tiny_folder: Path, tmp_path: Path
) -> None:
    (tmp_path / "keys").write_text("first\n\nsecond\n")
    more = ["--variant", "fp32", "--model", f"small={tiny_folder}@q4"]
    url, process = serve(*more, "--api-key-file", tmp_path / "keys", POCKETGPT_API_KEY="third")
    names = [one["id"] for one in ask(url, "/v1/models", key="third")["data"]]
    assert names == ["tiny", "small"]
    fields: dict[str, Any] = {
        "prompt": "The ships",
        "temperature": 0,
        "max_tokens": 8,
        "eos_token_id": [],
    }
    made = tiny.generate("The ships", max_new_tokens=8, eos_token_id=[])
    assert ask(url, key="first", model="tiny", **fields)["choices"][0]["text"] == made.text
    other = pocketgpt.load(tiny_folder, "q4", threads=1).generate(
        "The ships", max_new_tokens=8, eos_token_id=[]
    )
    assert ask(url, key="second", model="small", **fields)["choices"][0]["text"] == other.text
    with pytest.raises(urllib.error.HTTPError, match="401"):
        ask(url, "/v1/models")
    process.send_signal(signal.SIGTERM)
    assert process.wait(20) == 0


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel spreads connections on Linux")
def test_workers_share_a_port_and_are_replaced(serve: Serve, tiny: pocketgpt.Model) -> None:
    url, process = serve("--workers", 2, "--variant", "fp32")
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")

    def workers() -> list[int]:
        names = {
            pid: Path(f"/proc/{pid}/cmdline").read_bytes() for pid in children.read_text().split()
        }
        return [int(pid) for pid, name in names.items() if b"spawn_main" in name]

    fields: dict[str, Any] = {
        "prompt": "The ships",
        "temperature": 0,
        "max_tokens": 8,
        "eos_token_id": [],
    }
    made = tiny.generate("The ships", max_new_tokens=8, eos_token_id=[])
    before = workers()
    assert len(before) == 2
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:  # one says that it serves; the other may still load
        try:
            texts = {ask(url, **fields)["choices"][0]["text"] for _ in range(8)}
            break
        except urllib.error.HTTPError:
            time.sleep(0.1)
    assert texts == {made.text}
    os.kill(before[0], signal.SIGKILL)
    while time.monotonic() < deadline and set(workers()) in ({*before}, {before[1]}):
        time.sleep(0.1)
    assert len(workers()) == 2
    process.send_signal(signal.SIGTERM)
    assert process.wait(30) == 0
    assert not any(Path(f"/proc/{pid}").exists() for pid in before)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--variant", "fp8"], "fp8"),
        (["--model", "x"], "NAME=FOLDER"),
        (["--model", "tiny={folder}"], "name of its own"),
        (["--model", "other=/nowhere"], "/nowhere"),
        (["--slots", "0"], "slots"),
        (["--workers", "0"], "workers"),
        (["--port", "70000"], "port"),
        (["--host", "203.0.113.7"], "cannot listen"),
        (["--api-key-file", "/nowhere"], "api-key-file"),
    ],
)
def test_wrong_calls_are_one_line(
    cli: Cli, tiny_folder: Path, arguments: list[str], said: str
) -> None:
    given = [argument.replace("{folder}", str(tiny_folder)) for argument in arguments]
    code, _, errors = cli("serve", tiny_folder, *given)
    assert code in (1, 2)
    assert said in errors
    assert "Traceback" not in errors


def test_a_classifier_is_refused(cli: Cli, classifier_folder: Path) -> None:
    code, _, errors = cli("serve", classifier_folder, "--port", 0)
    assert code == 2
    assert "classifier" in errors
