"""GPTQ: rounding column by column, each column's error passed on to those not rounded yet.

Frantar et al., https://arxiv.org/abs/2210.17323: the error that counts is that of the product's
outputs on real inputs, whose second moments `H = X^T X` say how columns make up for one another.
Every block's grid is searched for when its first column is reached.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from .format import Floats, Format, Rounded, blocks_of
from .grid import SHRINKS, decode, encode, fit_grid

COLUMNS = 128  # of a wider block whose errors are passed on to the others together

Moments = Floats
"""Of a product's inputs, `[in, in]`: what they are when multiplied by one another, on average."""


def gptq(moments: Moments, damping: float) -> Callable[[Floats, Format], Rounded]:
    """Return GPTQ's rounding for inputs whose second moments are `moments [in, in]`."""
    factor = _inverse_factor(damped(moments, damping))
    importance = np.diagonal(moments)

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


def damped(moments: Moments, damping: float) -> Moments:
    """Add a share of the mean diagonal to it: it also holds channels that are always zero."""
    changed = moments.copy()
    changed[np.diag_indices_from(changed)] += damping * float(np.diagonal(moments).mean()) or 1.0
    return changed


def _inverse_factor(moments: Moments) -> Floats:
    """Return the upper Cholesky factor of the moments' inverse."""
    inverse = np.linalg.inv(moments.astype(np.float64))
    factor: Floats = np.linalg.cholesky(inverse).T.astype(np.float32)
    return factor
