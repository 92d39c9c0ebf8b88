"""Second thoughts on a rounded matrix: better scales for its numbers, better numbers for those.

Both make the error of the product's outputs smaller, `tr(E H E^T)` for an error E and the inputs'
second moments H, in turns. The scales of a row are its least-squares ones, all blocks together. The
numbers are gone through column by column, each set to the nearest that makes up for the errors of
all others, after QuantEase (https://arxiv.org/abs/2309.01885).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from .format import Codes, Floats, Format, Rounded
from .gptq import Moments, damped, gptq
from .grid import decode, encode

STRIPE = 64  # columns whose effect on the others is taken along at once
SYSTEMS_BYTES = 64 * 2**20  # what the rows solved for together may take


def refined(moments: Moments, damping: float, rounds: int) -> Callable[[Floats, Format], Rounded]:
    """Return GPTQ's rounding, improved in `rounds` rounds.

    Args:
        moments: of the product's inputs, `[in, in]`.
        damping: as `gptq`'s.
        rounds: how often scales and numbers take turns.
    """
    first = gptq(moments, damping)
    metric = damped(moments, damping).astype(np.float32)

    def rounding(weight: Floats, form: Format) -> Rounded:
        codes, scales, zeros = first(weight, form)
        for _ in range(rounds):
            scales = fit_scales(weight, (codes, scales, zeros), metric, form)
            codes = fit_codes(weight, (codes, scales, zeros), metric, form)
        return codes, scales, zeros

    return rounding


def fit_scales(weight: Floats, rounded: Rounded, metric: Floats, form: Format) -> Floats:
    """Return the scales `[rows, blocks]` of least error for stored numbers and zeros.

    With `v` a row's numbers minus zeros, they solve `A s = y`: `A[a, b]` sums `v_i metric_ij v_j`
    over the blocks a and b, and `y[a]` sums `v_i (metric w)_i` over the block a.
    """
    codes, scales, zeros = rounded
    inputs = weight.shape[1]
    starts = np.arange(0, inputs, form.block_size)
    block_of = np.arange(inputs) // form.block_size
    offsets = codes.astype(np.float32) - zeros[:, block_of]
    targets = np.add.reduceat(offsets * (weight @ metric), starts, axis=1)
    found = np.empty_like(scales)
    together = max(1, SYSTEMS_BYTES // (4 * len(starts) * inputs))
    for first in range(0, len(weight), together):
        rows = slice(first, first + together)
        systems = _systems(offsets[rows], metric, starts, form)
        solved = np.linalg.solve(systems, targets[rows, :, None].astype(np.float64))[..., 0]
        usable = np.isfinite(solved) & (solved != 0)
        found[rows] = form.scales(np.where(usable, solved, scales[rows]).astype(np.float32))
    return found


def _systems(
    offsets: Floats, metric: Floats, starts: NDArray[np.int64], form: Format
) -> NDArray[np.float64]:
    """Return the matrices A `[rows, blocks, blocks]`, a little damped: a block may be all zeros."""
    halves = np.empty((len(offsets), len(starts), offsets.shape[1]), np.float32)
    for index, start in enumerate(starts):
        block = slice(start, start + form.block_size)
        halves[:, index] = offsets[:, block] @ metric[block]
    systems = np.add.reduceat(halves * offsets[:, None], starts, axis=2).astype(np.float64)
    diagonal = np.einsum("rbb->rb", systems)  # a view
    diagonal += 1e-6 * diagonal.mean(axis=1, keepdims=True) + np.finfo(np.float32).tiny
    return systems


def fit_codes(weight: Floats, rounded: Rounded, metric: Floats, form: Format) -> Codes:
    """Return stored numbers of less error for scales and zeros: one pass over the columns."""
    codes, scales, zeros = rounded
    codes = codes.copy()
    inputs = weight.shape[1]
    block_of = np.arange(inputs) // form.block_size
    stored = decode(codes, scales[:, block_of], zeros[:, block_of])
    pull = (weight - stored) @ metric  # half the error's gradient, negated
    for start in range(0, inputs, STRIPE):
        stripe = slice(start, min(start + STRIPE, inputs))
        near = pull[:, stripe].copy()
        changes = np.empty_like(near)
        for column in range(start, stripe.stop):
            block, here = block_of[column], column - start
            best = stored[:, column] + near[:, here] / metric[column, column]
            codes[:, column] = encode(best, scales[:, block], zeros[:, block], form)
            chosen = decode(codes[:, column], scales[:, block], zeros[:, block])
            changes[:, here] = chosen - stored[:, column]
            stored[:, column] = chosen
            near -= np.outer(changes[:, here], metric[column, stripe])
        pull -= changes @ metric[stripe]
    return codes
