"""Which systems have wheels of what the runtime needs, asked of PyPI: `make test-wheels`."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from wheels import BASE, MISSING, PYTHONS, SYSTEMS, resolves

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("python", PYTHONS)
@pytest.mark.parametrize("system", SYSTEMS)
def test_the_runtime_installs_from_wheels_alone(system: str, python: str) -> None:
    missing = [package for package in BASE if not resolves(package, system, python)]
    assert missing == [*MISSING.get((system, python), MISSING.get((system, ""), ()))]
