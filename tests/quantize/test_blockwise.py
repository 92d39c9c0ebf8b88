"""Blockwise rounding to nearest, by hand."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from pocketgpt_quantize.rounding.format import BlockwiseWeight, Floats, Format, quantize_weight
from pocketgpt_quantize.rounding.grid import round_to_nearest


def rounded(weight: Floats, bits: int, block_size: int) -> BlockwiseWeight:
    """Quantize `weight [in, out]` symmetrically, to nearest."""
    form = Format(bits, block_size)
    return quantize_weight(np.ascontiguousarray(weight.T), form, round_to_nearest)


def unpack(weight: BlockwiseWeight) -> NDArray[np.int64]:
    """Stored numbers `[out, blocks, block_size]`, from bytes in MatMulNBits' documented layout."""
    packed = weight.packed.astype(np.int64)
    if weight.format.bits == 8:
        return packed
    return np.stack([packed & 15, packed >> 4], axis=-1).reshape(*packed.shape[:2], -1)


def dequantize(weight: BlockwiseWeight, inputs: int) -> NDArray[np.float32]:
    """`[in, out]` float32."""
    middle = 2 ** (weight.format.bits - 1)
    values = (unpack(weight) - middle) * weight.scales[..., None]
    flat: NDArray[np.float32] = values.reshape(len(values), -1)[:, :inputs].T
    return flat


def test_four_bits_by_hand() -> None:
    """The largest, -8, makes the scale 1: numbers are stored rounded, plus 8."""
    column = np.array([-8, 7, 0, 1, 2.4, 2.6, -2.4, -2.6, -7.9, 6.9, 0.3, -0.3, 3, -3, 5, -5])
    weight = rounded(column[:, None].astype(np.float32), 4, 16)
    assert weight.scales.tolist() == [[1.0]]
    assert unpack(weight).tolist() == [[[0, 15, 8, 9, 10, 11, 6, 5, 0, 15, 8, 8, 11, 5, 13, 3]]]
    # Two to a byte, the first in the low half.
    assert weight.packed.tolist() == [[[0xF0, 0x98, 0xBA, 0x56, 0xF0, 0x88, 0x5B, 0x3D]]]


def test_eight_bits_by_hand() -> None:
    """The largest, -64, makes the scale 1/2: numbers are stored doubled, rounded, plus 128."""
    column = np.array([-64, 63.5, 0, 0.5, 1.2, 1.3, -1.2, -1.3, 10, -10, 0.1, -0.1, 1, 2, 3, 4])
    weight = rounded(column[:, None].astype(np.float32), 8, 16)
    assert weight.scales.tolist() == [[0.5]]
    expected = [0, 255, 128, 129, 130, 131, 126, 125, 148, 108, 128, 128, 130, 132, 134, 136]
    assert weight.packed.tolist() == [[expected]]


def test_a_positive_largest_is_stored_exactly() -> None:
    """It becomes the lowest number, and the scale negative; its opposite is cut to 7/8."""
    column = np.zeros((16, 1), np.float32)
    column[:4, 0] = 16, -16, 2, -4
    weight = rounded(column, 4, 16)
    assert weight.scales.tolist() == [[-2.0]]
    assert unpack(weight)[0, 0, :5].tolist() == [0, 15, 7, 10, 8]
    assert dequantize(weight, 16)[:5, 0].tolist() == [16, -14, 2, -4, 0]


def test_every_block_of_every_output_has_its_own_scale() -> None:
    matrix = np.zeros((32, 3), np.float32)
    for block in range(2):
        for output in range(3):
            matrix[16 * block, output] = -8 * (1 + block + 2 * output)
    weight = rounded(matrix, 4, 16)
    assert weight.packed.shape == (3, 2, 8)
    assert weight.scales.tolist() == [[1, 2], [3, 4], [5, 6]]
    np.testing.assert_array_equal(dequantize(weight, 32), matrix)


def test_an_unfilled_block_is_padded_with_zeros() -> None:
    matrix = np.full((20, 2), -8, np.float32)
    weight = rounded(matrix, 4, 16)
    assert weight.packed.shape == (2, 2, 8)
    assert unpack(weight)[:, 1].tolist() == [[0] * 4 + [8] * 12] * 2
    np.testing.assert_array_equal(dequantize(weight, 20), matrix)


def test_a_block_of_zeros_stays_zero() -> None:
    weight = rounded(np.zeros((32, 2), np.float32), 4, 16)
    np.testing.assert_array_equal(dequantize(weight, 32), np.zeros((32, 2)))


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("block_size", [16, 32, 128])
def test_no_number_is_off_by_more_than_half_a_step(bits: int, block_size: int) -> None:
    """But for the highest stored one, which stands for what rounds to the next as well."""
    matrix = np.random.default_rng(bits).normal(0, 0.3, (200, 17)).astype(np.float32)
    weight = rounded(matrix, bits, block_size)
    steps = np.abs(weight.scales).repeat(block_size, axis=1)[:, :200].T
    error = np.abs(dequantize(weight, 200) - matrix) / steps
    stored = unpack(weight).reshape(17, -1)[:, :200].T
    assert error[stored < 2**bits - 1].max() <= 0.5 + 1e-4
    assert error.max() <= 1 + 1e-4


@pytest.mark.parametrize("bits", [4, 8])
def test_dtypes_and_layout(bits: int) -> None:
    weight = rounded(np.eye(64, 8, dtype=np.float32), bits, 32)
    assert weight.packed.dtype == np.uint8
    assert weight.scales.dtype == np.float32
    assert weight.packed.shape == (8, 2, 32 * bits // 8)
    assert weight.packed.flags.c_contiguous
    assert weight.scales.flags.c_contiguous


@pytest.mark.parametrize("bits", [4, 8])
def test_equals_onnxruntimes_quantizer(
    onnxruntime_rounding: Callable[[Floats, Format], tuple[Any, Any, Any]], bits: int
) -> None:
    """Every byte: this matrix has no ties, which the two round differently."""
    matrix = np.random.default_rng(9).normal(0, 0.3, (96, 33)).astype(np.float32)
    packed, scales, _ = onnxruntime_rounding(matrix.T, Format(bits, 32))
    weight = rounded(matrix, bits, 32)
    np.testing.assert_allclose(weight.scales, scales, rtol=1e-6)
    np.testing.assert_array_equal(weight.packed, packed)
