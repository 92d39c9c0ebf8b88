"""Blocks and their grids, against numbers worked out by hand and ONNX Runtime's own quantizer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from pocketgpt_quantize.recipes.int8_q4 import DAMPING
from pocketgpt_quantize.rounding.format import Floats, Format, quantize_weight
from pocketgpt_quantize.rounding.gptq import gptq
from pocketgpt_quantize.rounding.grid import SHRINKS, decode, fit_grid, round_to_nearest


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("symmetric", [True, False])
def test_round_to_nearest_is_onnxruntimes(
    onnxruntime_rounding: Callable[[Floats, Format], tuple[Any, Any, Any]],
    bits: int,
    symmetric: bool,
) -> None:
    weight = np.random.default_rng(0).standard_normal((24, 64)).astype(np.float32)
    form = Format(bits, 32, symmetric)
    packed, scales, zeros = onnxruntime_rounding(weight, form)
    found = quantize_weight(weight, form, round_to_nearest)
    np.testing.assert_allclose(found.scales, scales, rtol=1e-6)
    assert (found.packed != packed).mean() < 0.01  # ties, which it rounds away from zero
    if found.zero_points is not None:
        assert (found.zero_points != zeros.reshape(24, -1)).mean() < 0.01


def test_a_symmetric_block_by_hand() -> None:
    weight = np.array([[-8.0, 7.0, 0.4, 3.6]], np.float32)
    codes, scales, zeros = round_to_nearest(weight, Format(4, 4))
    assert codes.tolist() == [[0, 15, 8, 12]]
    assert scales.tolist() == [[1.0]]
    assert zeros.tolist() == [[8]]


def test_an_asymmetric_block_by_hand() -> None:
    weight = np.array([[-2.0, 13.0, 0.0, 5.4]], np.float32)
    codes, scales, zeros = round_to_nearest(weight, Format(4, 4, symmetric=False))
    assert codes.tolist() == [[0, 15, 2, 7]]
    assert scales.tolist() == [[1.0]]
    assert zeros.tolist() == [[2]]


@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("bits", [4, 8])
def test_half_precision_scales_are_what_was_rounded_with(bits: int, symmetric: bool) -> None:
    weight = np.random.default_rng(0).normal(0, 0.1, (5, 64)).astype(np.float32)
    form = Format(bits, 32, symmetric, scale_bits=16)
    codes, scales, zeros = round_to_nearest(weight, form)
    np.testing.assert_array_equal(scales, scales.astype(np.float16))
    wide = scales.repeat(32, axis=1), zeros.repeat(32, axis=1)
    inner = (codes > 0) & (codes < form.top)
    off = np.abs(decode(codes, *wide) - weight) / np.abs(wide[0])
    assert off[inner].max() <= 0.5 + 1e-4


def test_scales_that_half_precision_would_change_much_stay() -> None:
    exact = np.array([9e-7, 1e5, 0.1, -3e-5], np.float32)
    rounded = exact[2:].astype(np.float16).astype(np.float32)
    assert Format(8, 32, scale_bits=16).scales(exact).tolist() == [*exact[:2], *rounded]
    assert Format(8, 32).scales(exact).tolist() == exact.tolist()


@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("bits", [4, 8])
def test_dequantized_is_what_the_numbers_stand_for(bits: int, symmetric: bool) -> None:
    weight = np.random.default_rng(0).normal(0, 0.1, (5, 80)).astype(np.float32)
    form = Format(bits, 32, symmetric)
    codes, scales, zeros = round_to_nearest(weight, form)
    wide = scales.repeat(32, axis=1)[:, :80], zeros.repeat(32, axis=1)[:, :80]
    stored = quantize_weight(weight, form, round_to_nearest)
    np.testing.assert_array_equal(stored.dequantized(80), decode(codes, *wide))


def test_packing_by_hand() -> None:
    weight = np.array([[-8.0, 7.0, 0.4, 3.6, 1.0, -8.0]], np.float32)
    found = quantize_weight(weight, Format(4, 4, symmetric=False), round_to_nearest)
    scale = np.float32(9) / np.float32(15)  # of the second block, -8 to 1
    assert found.scales.tolist() == [[1.0, scale]]
    assert found.packed.tolist() == [[[0xF0, 0xC8], [0x0F, 0xDD]]]  # the last two stand for zero
    assert found.zero_points is not None
    assert found.zero_points.tolist() == [[0xD8]]


@pytest.mark.parametrize("symmetric", [True, False])
def test_zeros_stay_zeros(symmetric: bool) -> None:
    form = Format(4, 32, symmetric)
    codes, scales, zeros = round_to_nearest(np.zeros((3, 32), np.float32), form)
    assert np.isfinite(scales).all()
    assert (decode(codes, scales, zeros) == 0).all()


def test_a_searched_grid_is_no_worse_where_it_counts() -> None:
    values = np.random.default_rng(0).standard_normal((50, 32)).astype(np.float32)
    importance = np.geomspace(1, 100, 32).astype(np.float32)
    form = Format(4, 32, symmetric=False)

    def error(shrinks: tuple[float, ...]) -> float:
        codes, scales, zeros = round_to_nearest(values, form, shrinks, importance)
        return float((np.square(decode(codes, scales, zeros) - values) @ importance).sum())

    assert error(SHRINKS) < 0.9 * error((1.0,))


def test_a_grid_can_leave_an_outlier_without_importance() -> None:
    values = np.array([[1.0, -0.875, 0.5, 1.6]], np.float32)
    importance = np.array([1, 1, 1, 0], np.float32)
    scale, _ = fit_grid(values, importance, Format(4, 4), (1.0, 0.625))
    assert scale.tolist() == [np.float32(-1.6 * 0.625 / 8)]


@pytest.mark.parametrize("symmetric", [True, False])
def test_gptq_makes_the_products_error_smaller(symmetric: bool) -> None:
    random = np.random.default_rng(0)
    mixing = random.standard_normal((64, 64))
    inputs = (random.standard_normal((400, 64)) @ mixing).astype(np.float32)
    weight = random.standard_normal((40, 64)).astype(np.float32)
    form = Format(4, 32, symmetric)

    def error(codes: np.ndarray, scales: np.ndarray, zeros: np.ndarray) -> float:
        decoded = decode(codes.reshape(40, 2, 32), scales[..., None], zeros[..., None])
        return float(np.square(inputs @ (decoded.reshape(40, 64) - weight).T).mean())

    moments = inputs.T @ inputs / np.float32(len(inputs))
    assert error(*gptq(moments, DAMPING)(weight, form)) < 0.5 * error(
        *round_to_nearest(weight, form)
    )


def test_gptq_with_uncorrelated_inputs_only_rounds() -> None:
    weight = np.random.default_rng(0).standard_normal((10, 64)).astype(np.float32)
    form = Format(4, 32)
    found_by = gptq(np.eye(64, dtype=np.float32), DAMPING)
    expected = round_to_nearest(weight, form, SHRINKS)
    for found, wanted in zip(found_by(weight, form), expected, strict=True):
        np.testing.assert_array_equal(found, wanted)


def test_gptq_where_no_input_was_ever_seen() -> None:
    weight = np.random.default_rng(0).standard_normal((4, 32)).astype(np.float32)
    codes, scales, zeros = gptq(np.zeros((32, 32), np.float32), DAMPING)(weight, Format(8, 32))
    np.testing.assert_allclose(decode(codes, scales, zeros), weight, atol=0.05)
