"""Every variant: damaged weights and a full disk get one line, and leave nothing behind."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from pocketgpt import QuantizationError
from pocketgpt_quantize import quantize
from pocketgpt_quantize.blockwise import Floats
from pocketgpt_quantize.variants import RECIPES

FUSED = [name for name, recipe in RECIPES.items() if recipe.graph == "fused"]
Weights = dict[str, Floats]
Alter = Callable[[Path, Callable[[Weights], None]], None]


def contents(folder: Path) -> dict[str, bytes]:
    """Every file below `folder`, hidden ones included."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


@pytest.mark.parametrize("number", [np.nan, np.inf])
@pytest.mark.parametrize("name", ["mlp.c_fc.weight", "ln_1.weight"])
@pytest.mark.parametrize("variant", FUSED)
def test_a_number_that_is_none(
    model_folder: Path, alter: Alter, variant: str, name: str, number: float
) -> None:
    def damage(weights: Weights) -> None:
        weights[f"transformer.h.1.{name}"].flat[5] = number

    alter(model_folder, damage)
    before = contents(model_folder.parent)
    with pytest.raises(QuantizationError, match="NaN or infinity, in transformer") as caught:
        quantize(model_folder, [variant])
    assert "\n" not in str(caught.value)
    assert contents(model_folder.parent) == before


@pytest.mark.parametrize("variant", FUSED)
def test_a_disk_that_fills_while_weights_are_written(
    model_folder: Path, monkeypatch: pytest.MonkeyPatch, variant: str
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("onnx_ir.external_data.unload_from_model", full)
    before = contents(model_folder.parent)
    with pytest.raises(QuantizationError, match=r"cannot take the variants.*No space left"):
        quantize(model_folder, [variant])
    assert contents(model_folder.parent) == before
