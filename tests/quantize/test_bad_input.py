"""Every variant: damaged weights and a full disk get one line, and leave nothing behind."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel

from pocketgpt import QuantizationError
from pocketgpt_export import export
from pocketgpt_quantize import quantize
from pocketgpt_quantize.recipes.registry import RECIPES
from pocketgpt_quantize.rounding.format import Floats

from ..conftest import contents
from .conftest import small_tokenizer, text_of

FUSED = [name for name, recipe in RECIPES.items() if recipe.graph == "fused"]
Weights = dict[str, Floats]
Alter = Callable[[Path, Callable[[Weights], None]], None]


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


def test_equal_matrices(tmp_path: Path) -> None:
    """The exporter stores small ones once: rounding one would round both."""
    torch.manual_seed(0)
    tokenizer = small_tokenizer()
    shape = {"n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": 64}
    model = GPT2LMHeadModel(GPT2Config(vocab_size=len(tokenizer), **shape))
    first, second = model.transformer.h
    second.load_state_dict(first.state_dict())
    model.save_pretrained(tmp_path / "checkpoint")
    tokenizer.save_pretrained(tmp_path / "checkpoint")
    for index, text in enumerate(("evaluation.txt", "calibration.txt")):
        (tmp_path / "checkpoint" / text).write_text(text_of(index, 200), "utf-8")
    export(tmp_path / "checkpoint", tmp_path / "model")
    for variant in FUSED:
        with pytest.raises(QuantizationError, match=r"has matrices equal to transformer\.h\.0"):
            quantize(tmp_path / "model", [variant])


def test_weights_linked_to_elsewhere(model_folder: Path) -> None:
    """onnx_ir refuses them, for they may be anything."""
    weights = model_folder / "onnx" / "model.onnx_data"
    weights.rename(model_folder / "elsewhere")
    weights.hardlink_to(model_folder / "elsewhere")
    with pytest.raises(
        QuantizationError, match=r"the weights of .*model\.onnx cannot be read: "
    ) as caught:
        quantize(model_folder, ["int8"])
    assert "\n" not in str(caught.value)
