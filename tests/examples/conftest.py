"""Running an example as its own program would, in this process."""

from __future__ import annotations

import runpy
import sys
from collections.abc import Callable

import pytest

from ..conftest import ROOT

Run = Callable[..., None]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run an example by its name with arguments."""

    def run(name: str, *arguments: object) -> None:
        path = str(ROOT / "examples" / name)
        monkeypatch.setattr(sys, "argv", [path, *map(str, arguments)])
        runpy.run_path(path, run_name="__main__")

    return run
