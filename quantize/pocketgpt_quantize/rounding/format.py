"""Blockwise weights: a scale, and maybe a zero point, for `block_size` inputs of every output."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Codes = NDArray[np.uint8]

SMALLEST_HALF = 2.0**-20  # of half precision's numbers, the smallest with 5 bits
ROWS = 4096  # of a large matrix, quantized at a time: temporaries stay small


@dataclass(frozen=True)
class Format:
    """How a matrix is stored: bits a weight, weights a scale, whether zero is always the middle.

    A symmetric block's zero is `2 ** (bits - 1)`; others store theirs, `bits` more a block. Scales
    have 32 bits or 16.
    """

    bits: int
    block_size: int
    symmetric: bool = True
    scale_bits: int = 32

    @property
    def middle(self) -> int:
        """The stored number that stands for zero in a symmetric block."""
        return 1 << self.bits - 1

    @property
    def top(self) -> int:
        """The largest stored number."""
        return (1 << self.bits) - 1

    def scales(self, exact: Floats) -> Floats:
        """Return the scales that can be stored: the grid is what they make it.

        In 16 bits those so small or large that they would change much stay as they are; their
        matrix is stored with 32-bit scales.
        """
        if self.scale_bits == 32:
            return exact
        sizes = np.abs(exact)
        fits = (sizes >= SMALLEST_HALF) & (sizes <= np.finfo(np.float16).max)
        return np.where(fits, np.where(fits, exact, 0).astype(np.float16), exact)


@dataclass(frozen=True)
class BlockwiseWeight:
    """A quantized matrix `[out, in]` in MatMulNBits' layout.

    `packed` is `[out, blocks, block_size * bits / 8]` uint8, low nibble first; `scales` is
    `[out, blocks]` float32; `zero_points`, None where symmetric, `[out, blocks * bits / 8]` packed
    alike. A stored number q stands for `(q - zero) * scale`.
    """

    packed: Codes
    scales: Floats
    zero_points: Codes | None
    format: Format

    def dequantized(self, inputs: int) -> Floats:
        """Return what is stored, `[out, inputs]`."""
        form, blocks = self.format, self.scales.shape[1]
        zeros = np.full(self.scales.shape, form.middle, np.uint8)
        if self.zero_points is not None:
            zeros = _unpack(self.zero_points, form.bits)[:, :blocks]
        codes = _unpack(self.packed.reshape(len(self.packed), -1), form.bits)
        centered = codes.reshape(*self.scales.shape, -1).astype(np.float32) - zeros[..., None]
        flat: Floats = (centered * self.scales[..., None]).reshape(len(codes), -1)[:, :inputs]
        return flat


Rounded = tuple[Codes, Floats, Codes]
"""Stored numbers `[rows, in]`, scales and zeros `[rows, blocks]`."""


def quantize_weight(
    weight: Floats, form: Format, rounding: Callable[[Floats, Format], Rounded]
) -> BlockwiseWeight:
    """Quantize `weight [out, in]` some rows at a time and lay it out.

    A last block that `in` does not fill is padded with what stands for zero.
    """
    parts = [rounding(np.array(rows, np.float32), form) for rows in _rows(weight)]
    codes, scales, zeros = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    missing = scales.shape[1] * form.block_size - codes.shape[1]
    padded = np.concatenate([codes, np.repeat(zeros[:, -1:], missing, axis=1)], axis=1)
    packed = _pack(padded, form.bits).reshape(*scales.shape, -1)
    return BlockwiseWeight(
        packed, scales, None if form.symmetric else _pack(zeros, form.bits), form
    )


def _rows(weight: Floats) -> Iterator[Floats]:
    for start in range(0, len(weight), ROWS):
        yield weight[start : start + ROWS]


def _pack(codes: Codes, bits: int) -> Codes:
    if bits == 8:
        return codes
    if codes.shape[1] % 2:
        codes = np.pad(codes, ((0, 0), (0, 1)))
    low, high = codes[:, ::2], np.left_shift(codes[:, 1::2], 4, dtype=np.uint8)
    pairs: Codes = np.bitwise_or(low, high, dtype=np.uint8)
    return pairs


def _unpack(packed: Codes, bits: int) -> Codes:
    if bits == 8:
        return packed
    return np.stack([packed & 15, packed >> 4], axis=-1).reshape(len(packed), -1)


def blocks_of(inputs: int, form: Format) -> list[slice]:
    """Return the columns of each block."""
    size = form.block_size
    return [slice(start, min(start + size, inputs)) for start in range(0, inputs, size)]
