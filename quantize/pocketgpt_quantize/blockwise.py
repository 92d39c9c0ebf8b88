"""Blockwise weights: a scale for every `block_size` inputs of every output."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class BlockwiseWeight:
    """A quantized matrix `[out, in]` in MatMulNBits' layout.

    `packed` is `[out, blocks, block_size * bits / 8]` uint8, low nibble first; `scales` is
    `[out, blocks]` float32. A stored number q stands for `(q - 2 ** (bits - 1)) * scale`.
    """

    packed: NDArray[np.uint8]
    scales: NDArray[np.float32]
    bits: int
    block_size: int


def quantize_weight(weight: NDArray[np.float32], bits: int, block_size: int) -> BlockwiseWeight:
    """Quantize `weight [in, out]` by symmetric rounding to nearest.

    As ONNX Runtime's own quantizer: the number of largest magnitude in a block becomes the lowest
    stored number, 0. A last block that `in` does not fill is padded with zeros.
    """
    inputs, outputs = weight.shape
    padded = np.pad(weight.T, ((0, 0), (0, -inputs % block_size)))
    blocks = padded.reshape(outputs, -1, block_size)
    largest = np.take_along_axis(blocks, np.abs(blocks).argmax(-1, keepdims=True), axis=-1)
    middle = 2 ** (bits - 1)
    scales = (largest / -middle).astype(np.float32)
    divisors = np.where(scales == 0, np.float32(1), scales)
    stored = np.clip(np.rint(blocks / divisors) + middle, 0, 2 * middle - 1).astype(np.uint8)
    if bits == 4:
        stored = stored[..., 0::2] | stored[..., 1::2] << 4
    return BlockwiseWeight(stored, scales[..., 0], bits, block_size)
