"""Refinement: scales against NumPy's least squares, numbers that only get better."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from pocketgpt_quantize.rounding.format import Floats, Format, Rounded
from pocketgpt_quantize.rounding.gptq import gptq
from pocketgpt_quantize.rounding.grid import decode, round_to_nearest
from pocketgpt_quantize.rounding.refine import fit_codes, fit_scales, refined

FORM = Format(4, 32, symmetric=False)


@pytest.fixture
def inputs() -> Floats:
    """What a product reads: 500 rows whose 64 channels depend on one another."""
    random = np.random.default_rng(0)
    rows = random.standard_normal((500, 64)) @ random.standard_normal((64, 64))
    return rows.astype(np.float32)


@pytest.fixture
def weight() -> Floats:
    return np.random.default_rng(1).standard_normal((20, 64)).astype(np.float32)


def stored(rounded: Rounded) -> NDArray[np.float32]:
    codes, scales, zeros = rounded
    return decode(codes, scales.repeat(32, axis=1), zeros.repeat(32, axis=1))


def error(inputs: Floats, weight: Floats, rounded: Rounded) -> float:
    return float(np.square(inputs @ (stored(rounded) - weight).T).mean())


def test_scales_are_numpys_least_squares(inputs: Floats, weight: Floats) -> None:
    codes, scales, zeros = round_to_nearest(weight, FORM)
    found = fit_scales(weight, (codes, scales, zeros), inputs.T @ inputs, FORM)
    for row in range(len(weight)):
        offsets = codes[row].astype(np.float32) - zeros[row].repeat(32)
        parts = (inputs * offsets).reshape(len(inputs), 2, 32).sum(axis=2)
        expected = np.linalg.lstsq(parts, inputs @ weight[row], rcond=None)[0]
        np.testing.assert_allclose(found[row], expected, rtol=1e-3)


def test_a_block_of_zeros_keeps_its_scale() -> None:
    weight = np.zeros((3, 64), np.float32)
    weight[:, :32] = np.linspace(-1, 1, 32)
    rounded = round_to_nearest(weight, FORM)
    found = fit_scales(weight, rounded, np.eye(64, dtype=np.float32), FORM)
    assert np.isfinite(found).all()
    assert (found != 0).all()


def test_no_number_gets_worse(inputs: Floats, weight: Floats) -> None:
    codes, scales, zeros = round_to_nearest(weight, FORM)
    before = error(inputs, weight, (codes, scales, zeros))
    for _ in range(3):
        codes = fit_codes(weight, (codes, scales, zeros), inputs.T @ inputs, FORM)
        after = error(inputs, weight, (codes, scales, zeros))
        assert after <= before * (1 + 1e-5)
        before = after
    # Where one pass changes nothing more, no other number alone would be better.
    column, changes = 5, []
    for step in (-1, 1):
        moved = codes.copy()
        moved[:, column] = np.clip(codes[:, column].astype(int) + step, 0, 15)
        difference = inputs @ (stored((moved, scales, zeros)) - weight).T
        now = inputs @ (stored((codes, scales, zeros)) - weight).T
        changes.append(np.square(difference).sum(axis=0) - np.square(now).sum(axis=0))
    again = fit_codes(weight, (codes, scales, zeros), inputs.T @ inputs, FORM)
    settled = (again == codes).all(axis=1)
    assert settled.any()
    assert (np.array(changes)[:, settled] >= -1e-2).all()


def test_it_beats_gptq(inputs: Floats, weight: Floats) -> None:
    moments = inputs.T @ inputs / np.float32(len(inputs))
    plain = error(inputs, weight, gptq(moments, 0.01)(weight, FORM))
    assert error(inputs, weight, refined(moments, 0.01, 2)(weight, FORM)) < 0.9 * plain
