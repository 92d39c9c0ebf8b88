"""examples/docker's image, run as its README says: nobody's user, nothing to write to, no rights.

`make test-docker` builds it by buildah, and bubblewrap stands for the container: a root that is
read only, a user and network of its own, no capabilities. Docker itself is not asked.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from .conftest import PROMPTS, ROOT, Greedy

IMAGE = ROOT / "build" / "docker"
DOCKER = ROOT / "examples" / "docker"
TOKENS = 24
PATIENCE = 60  # seconds
ASK = """
import sys, urllib.request
request = urllib.request.Request(sys.argv[1], sys.argv[2].encode() or None)
request.add_header("content-type", "application/json")
sys.stdout.write(urllib.request.urlopen(request, timeout=30).read().decode())
"""


@pytest.fixture(scope="module")
def config() -> dict[str, Any]:
    """What the image says of itself."""
    said = json.loads((IMAGE / "image.json").read_text("utf-8"))
    config: dict[str, Any] = said["Docker"]["config"]
    return config


def contained(config: dict[str, Any], *command: str, network: bool = False) -> list[str]:
    """Return the command line that runs a command in the image, as `docker run` would."""
    user, group = config["User"].split(":")
    environment = [pair.partition("=")[::2] for pair in config["Env"]]
    return [
        *("bwrap", "--ro-bind", str(IMAGE / "root"), "/", "--proc", "/proc", "--dev", "/dev"),
        *("--unshare-user", "--uid", user, "--gid", group, "--cap-drop", "ALL"),
        *("--unshare-pid", "--unshare-ipc", "--unshare-uts", "--die-with-parent", "--clearenv"),
        *([] if network else ["--unshare-net"]),
        *(word for name, value in environment for word in ("--setenv", name, value)),
        *command,
    ]


class Served:
    """The container, and how to ask it from within its network."""

    def __init__(self, process: subprocess.Popen[str], config: dict[str, Any]) -> None:
        self.process, self._config = process, config

    @property
    def inside(self) -> int:
        """The server's process, as this machine counts: bubblewrap's grandchild."""
        pid = self.process.pid
        while children := Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
            pid = int(children[0])
        return pid

    def ask(self, path: str, body: object = None) -> Any:
        command = [sys.executable, "-c", ASK, f"http://127.0.0.1:8000{path}"]
        return json.loads(self._within([*command, json.dumps(body) if body else ""]).stdout)

    def healthy(self) -> bool:
        """What HEALTHCHECK's command says, run in the image beside the server."""
        kind, *command = self._config["Healthcheck"]["Test"]
        assert kind == "CMD"
        return self._within(contained(self._config, *command, network=True), 1).returncode == 0

    def _within(self, command: list[str], at_most: int = 0) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            ["nsenter", "--target", str(self.inside), "--net", *command],
            capture_output=True,
            text=True,
            timeout=PATIENCE,
        )
        assert done.returncode <= at_most, done.stderr
        return done


@pytest.fixture(scope="module")
def served(config: dict[str, Any]) -> Iterator[Served]:
    command = contained(config, *config["Entrypoint"], *config["Cmd"])
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        container = Served(process, config)
        try:
            end = time.monotonic() + PATIENCE
            while not container.healthy():
                assert process.poll() is None, process.stderr and process.stderr.read()
                assert time.monotonic() < end, "it never was healthy"
                time.sleep(0.2)
            yield container
        finally:
            process.kill()


@pytest.mark.parametrize("prompt", PROMPTS)
def test_its_text_is_python_s(served: Served, greedy: Greedy, prompt: str) -> None:
    body = {"model": "tales", "prompt": prompt, "max_tokens": TOKENS, "temperature": 0}
    answer = served.ask("/v1/completions", body)
    assert answer["choices"][0]["text"] == greedy("int8", prompt, TOKENS, "auto").text


def test_it_may_nothing(served: Served) -> None:
    """No capability, no new ones, no user of this machine's, and nowhere to write."""
    status = Path(f"/proc/{served.inside}/status").read_text()
    assert re.findall(r"Cap(?:Prm|Eff|Bnd|Amb):\s*(\w+)", status) == ["0" * 16] * 4
    assert "NoNewPrivs:\t1" in status
    mounts = Path(f"/proc/{served.inside}/mounts").read_text().splitlines()
    root = next(line.split() for line in mounts if line.split()[1] == "/")
    assert "ro" in root[3].split(",")


def test_it_is_nobody(config: dict[str, Any]) -> None:
    done = subprocess.run(
        contained(config, "python", "-c", "import os; print(os.getuid(), os.getgid())"),
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert done.stdout == "10001 10001\n"


def test_it_holds_nothing_for_nobody() -> None:
    packages = next((IMAGE / "root/opt/pocketgpt/lib").glob("python3.*/site-packages"))
    assert not (packages / "pip").exists()
    assert not (packages / "torch").exists()
    capi = {path.name for path in (packages / "onnxruntime/capi").iterdir()}
    assert not any(name.startswith("libonnxruntime.so") for name in capi)
    assert not (packages / "onnxruntime/transformers").exists()


def test_compose_is_as_strict_as_the_run_line() -> None:
    compose = (DOCKER / "compose.yaml").read_text("utf-8")
    readme = (DOCKER / "README.md").read_text("utf-8")
    for flag, said in {
        "--read-only": "read_only: true",
        "--cap-drop ALL": "cap_drop: [ALL]",
        "--security-opt no-new-privileges": '["no-new-privileges:true"]',
        "--user 10001:10001": 'user: "10001:10001"',
    }.items():
        assert flag in readme
        assert said in compose


def test_stopping_it_ends_it(config: dict[str, Any], served: Served) -> None:
    """`docker stop` sends SIGTERM to the server itself. The last test: it ends the fixture's."""
    os.kill(served.inside, signal.SIGTERM)
    assert served.process.wait(PATIENCE) == 0
