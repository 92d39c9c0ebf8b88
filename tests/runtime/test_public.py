"""The public door: what `pocketgpt` shows is what it lists."""

from __future__ import annotations

import inspect

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
    visible = {
        name
        for name, value in vars(package).items()
        if not name.startswith("_") and not inspect.ismodule(value)
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
