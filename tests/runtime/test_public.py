"""The public door: what `pocketgpt` shows is what it lists."""

from __future__ import annotations

import inspect
import subprocess
import sys

import pytest

import pocketgpt
import pocketgpt.errors
import pocketgpt_export
import pocketgpt_quantize


@pytest.mark.parametrize(
    "package",
    [pocketgpt, pocketgpt_export, pocketgpt_quantize],
    ids=lambda package: package.__name__,
)
def test_all_is_sorted_and_what_is_visible(package: object) -> None:
    listed = getattr(package, "__all__")  # noqa: B009  # a module's, which `object` lacks
    for name in listed:  # some are imported once they are asked for
        getattr(package, name)
    visible = {
        name
        for name, value in vars(package).items()
        if not name.startswith("_")
        and name not in ("TYPE_CHECKING", "Any")
        and not inspect.ismodule(value)
        and getattr(value, "__module__", "") != "importlib"
    }
    assert listed == sorted(listed)
    assert set(listed) - {"__version__"} == visible


def test_every_error_is_public_and_in_the_tree() -> None:
    errors = [value for value in vars(pocketgpt.errors).values() if inspect.isclass(value)]
    assert errors
    for error in errors:
        assert issubclass(error, (pocketgpt.PocketGPTError, Warning))
        assert getattr(pocketgpt, error.__name__) is error
        assert error.__name__ in str(pocketgpt.errors.__doc__)


def test_what_generating_goes_without_is_imported_later() -> None:
    code = "import sys, pocketgpt; print([name for name in sys.modules if 'pocketgpt' in name])"
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, encoding="utf-8"
    ).stdout
    for name in ("folder.push", "folder.packaging", "measure.bench", "measure.devices"):
        assert f"'pocketgpt.{name}'" not in loaded
