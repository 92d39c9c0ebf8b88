"""GPTQ: rounding column by column, each column's error passed on to those not rounded yet.

Frantar et al., https://arxiv.org/abs/2210.17323: the error that counts is that of the product's
outputs on real inputs, whose second moments `H = X^T X` say how columns make up for one another.
Every block's grid is searched for when its first column is reached.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from .blockwise import Floats, Format, Rounded, blocks_of
from .grid import SHRINKS, decode, encode, fit_grid

DAMPING = 0.01  # of H's mean diagonal: the paper's
COLUMNS = 128  # of a wider block whose errors are passed on to the others together
EMBEDDING_DAMPING = 0.1  # more, for the head's weights are looked up as well, as they are


def gptq(
    moments: NDArray[np.float64], damping: float = DAMPING
) -> Callable[[Floats, Format], Rounded]:
    """Return GPTQ's rounding for inputs whose second moments are `moments [in, in]`."""
    factor = _inverse_factor(moments, damping)
    importance = np.diagonal(moments).astype(np.float32)

    def rounding(weight: Floats, form: Format) -> Rounded:
        left = weight.copy()  # what is still to be stored
        codes = np.empty(weight.shape, np.uint8)
        blocks = blocks_of(weight.shape[1], form)
        scales = np.empty((len(weight), len(blocks)), np.float32)
        zeros = np.empty((len(weight), len(blocks)), np.uint8)
        for index, block in enumerate(blocks):
            scale, zero = fit_grid(left[:, block], importance[block], form, SHRINKS)
            scales[:, index], zeros[:, index] = scale, zero
            for start in range(block.start, block.stop, COLUMNS):
                part = slice(start, min(start + COLUMNS, block.stop))
                errors = np.empty((len(weight), part.stop - part.start), np.float32)
                for column in range(part.start, part.stop):
                    codes[:, column] = encode(left[:, column], scale, zero, form)
                    error = left[:, column] - decode(codes[:, column], scale, zero)
                    error /= factor[column, column]
                    rest = slice(column + 1, part.stop)
                    left[:, rest] -= np.outer(error, factor[column, rest])
                    errors[:, column - part.start] = error
                left[:, part.stop :] -= errors @ factor[part, part.stop :]
        return codes, scales, zeros

    return rounding


def _inverse_factor(moments: NDArray[np.float64], damping: float) -> Floats:
    """Return the upper Cholesky factor of the damped moments' inverse.

    The damping also holds where a channel is always zero or depends on others.
    """
    damped = moments.copy()
    damped[np.diag_indices_from(damped)] += damping * float(np.diagonal(moments).mean()) or 1.0
    factor: Floats = np.linalg.cholesky(np.linalg.inv(damped)).T.astype(np.float32)
    return factor
