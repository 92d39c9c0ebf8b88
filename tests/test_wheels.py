"""The wheels that docs/boards.md says there are, asked of PyPI again: `make test-wheels`."""

from __future__ import annotations

import re

import pytest
import wheels

from .conftest import ROOT

# What the page says, by system: a cell for each Python.
LINES = re.findall(r"^\| (.*?) \|$", (ROOT / "docs" / "boards.md").read_text("utf-8"), re.MULTILINE)
CELLS = {cells[0]: cells[1:] for cells in (line.split(" | ") for line in LINES)}


def test_every_system_is_on_the_page() -> None:
    for system in wheels.SYSTEMS:
        assert len(CELLS[system]) == len(wheels.PYTHONS)


@pytest.mark.network
@pytest.mark.parametrize("python", wheels.PYTHONS)
@pytest.mark.parametrize("system", wheels.SYSTEMS)
def test_the_page_says_which_wheels_there_are(system: str, python: str) -> None:
    missing = wheels.missing(system, python)
    said = CELLS[system][wheels.PYTHONS.index(python)]
    assert said == ("yes" if not missing else f"no {', '.join(missing)}")
