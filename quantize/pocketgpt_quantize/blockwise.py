"""Blockwise weights: a scale for every `block_size` inputs of every output."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from onnxruntime.quantization.matmul_nbits_quantizer import (
    DefaultWeightOnlyQuantConfig,
    DefaultWeightOnlyQuantizer,
)


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
    """Quantize `weight [in, out]` by symmetric rounding to nearest, with ONNX Runtime's kernel.

    A last block that `in` does not fill is padded with zeros.
    """
    config = DefaultWeightOnlyQuantConfig(block_size=block_size, is_symmetric=True, bits=bits)
    weight = np.ascontiguousarray(weight, np.float32)
    packed, scales, _ = DefaultWeightOnlyQuantizer(config).qbits_block_quant(weight)
    return BlockwiseWeight(packed, scales, bits, block_size)
