"""Half precision: what is float16, what stays float32, and that it is right."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx_ir as ir
import onnxruntime as ort
import pytest

import pocketgpt
from pocketgpt import QuantizationError
from pocketgpt_quantize import quantize
from pocketgpt_quantize.rounding.format import Floats

SINGLE, HALF = ir.DataType.FLOAT, ir.DataType.FLOAT16
Weights = dict[str, Floats]
Alter = Callable[[Path, Callable[[Weights], None]], None]


def weights(folder: Path, variant: str) -> dict[str, ir.DataType]:
    """Return the types of a graph's float weights, by name."""
    graph = ir.load(folder / "onnx" / f"model_{variant}.onnx").graph
    types = {name: value.dtype for name, value in graph.initializers.items()}
    return {name: kind for name, kind in types.items() if kind in (SINGLE, HALF)}


def logits(folder: Path, variant: str) -> np.ndarray:
    """Return the logits `[tokens, vocab]` of one pass over some text."""
    ids = [5, 260, 270, 280, 300, 17, 290, 265, 301, 310] * 4
    found: np.ndarray = pocketgpt.load(folder, variant).new_decoder().score(ids)
    return found


@pytest.mark.parametrize("variant", ["fp16", "q4f16"])
def test_types(model_folder: Path, variant: str) -> None:
    """Nothing overflows here: every weight is float16, the cache too, the logits are float32."""
    (report,) = quantize(model_folder, [variant])
    assert report.installed
    found = weights(model_folder, variant)
    assert set(found.values()) == {HALF}
    session = ort.InferenceSession(model_folder / "onnx" / f"model_{variant}.onnx")
    given = {value.name: value.type for value in (*session.get_inputs(), *session.get_outputs())}
    assert given.pop("logits") == "tensor(float)"
    cache = {kind for name, kind in given.items() if ".key" in name or ".value" in name}
    assert cache == {"tensor(float16)"}


def test_fp16_is_half_of_fp32(model_folder: Path) -> None:
    (report,) = quantize(model_folder, ["fp16"])
    folder = model_folder / "onnx"
    whole, half = (folder / f"{name}.onnx_data" for name in ("model", "model_fp16"))
    assert half.stat().st_size <= whole.stat().st_size / 2 + 4096
    assert set(report.variant.bits.values()) == {16}
    assert report.loss < 1e-4
    assert report.variant.quality["kl_mean"] < 1e-5


def test_q4f16_holds_what_q4_holds(model_folder: Path) -> None:
    reports = quantize(model_folder, ["q4", "q4f16"])
    q4, q4f16 = (report.variant for report in reports)
    assert q4f16.bits == q4.bits
    assert q4f16.bytes < q4.bytes
    assert q4f16.quality["kl_mean"] == pytest.approx(q4.quality["kl_mean"], rel=0.5, abs=5e-6)
    assert (q4f16.method, q4f16.calibration_sha256) == (q4.method, q4.calibration_sha256)


def test_what_overflows_stays_float32(model_folder: Path, alter: Alter) -> None:
    """A channel that grows to 100,000 behind layer 0: what reads and adds to it, and no more."""

    def grow(weights: Weights) -> None:
        weights["transformer.h.0.mlp.c_proj.bias"][3] = 100_000

    alter(model_folder, grow)
    (report,) = quantize(model_folder, ["fp16"])
    assert report.installed
    single = {name for name, kind in weights(model_folder, "fp16").items() if kind == SINGLE}
    norms = ("h.1.ln_1", "h.1.ln_2", "ln_f")
    expected = {f"transformer.{norm}.{part}" for norm in norms for part in ("weight", "bias")}
    assert single == expected | {"transformer.h.0.mlp.c_proj.bias"}
    expected_logits = logits(model_folder, "fp32")
    off = np.abs(logits(model_folder, "fp16") - expected_logits).max()
    assert off < 2e-3 * np.abs(expected_logits).max()


def test_a_weight_beyond_half_precision(model_folder: Path, alter: Alter) -> None:
    """It multiplies nothing but zeros here: the weight alone says float32."""

    def grow(weights: Weights) -> None:
        weights["transformer.h.1.mlp.c_proj.weight"][7] = 1e6
        weights["transformer.h.1.mlp.c_fc.weight"][:, 7] = 0
        weights["transformer.h.1.mlp.c_fc.bias"][7] = -30  # whose GELU is 0

    alter(model_folder, grow)
    quantize(model_folder, ["fp16"])
    single = {name for name, kind in weights(model_folder, "fp16").items() if kind == SINGLE}
    assert single == {"transformer.h.1.mlp.c_proj.weight"}
    assert np.isfinite(logits(model_folder, "fp16")).all()


@pytest.mark.parametrize("variant", ["fp16", "q4f16"])
def test_attention_beyond_half_precision(model_folder: Path, alter: Alter, variant: str) -> None:
    def grow(weights: Weights) -> None:
        weights["transformer.h.1.attn.c_attn.bias"][-1] = 50_000

    alter(model_folder, grow)
    before = sorted(model_folder.rglob("*"))
    with pytest.raises(QuantizationError, match="queries, keys or values overflow"):
        quantize(model_folder, [variant])
    assert sorted(model_folder.rglob("*")) == before
