"""A block's grid: the scale and the zero that its numbers are rounded with."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from .format import Codes, Floats, Format, Rounded, blocks_of

WHOLE_RANGE = (1.0,)
SHRINKS = tuple(1 - step / 40 for step in range(17))  # of a block's range, tried for its grid


def round_to_nearest(
    weight: Floats,
    form: Format,
    shrinks: Sequence[float] = WHOLE_RANGE,
    importance: Floats | None = None,
) -> Rounded:
    """Round `weight [out, in]`, each block on its own grid.

    With the whole range alone this is what ONNX Runtime's own quantizer does: in a symmetric block
    the number of largest magnitude becomes the lowest stored one.
    """
    importance = np.ones(weight.shape[1], np.float32) if importance is None else importance
    codes = np.empty(weight.shape, np.uint8)
    blocks = blocks_of(weight.shape[1], form)
    scales = np.empty((len(weight), len(blocks)), np.float32)
    zeros = np.empty((len(weight), len(blocks)), np.uint8)
    for index, block in enumerate(blocks):
        scale, zero = fit_grid(weight[:, block], importance[block], form, shrinks)
        codes[:, block] = encode(weight[:, block], scale[:, None], zero[:, None], form)
        scales[:, index], zeros[:, index] = scale, zero
    return codes, scales, zeros


def fit_grid(
    values: Floats, importance: NDArray[np.float32], form: Format, shrinks: Sequence[float]
) -> tuple[Floats, Codes]:
    """Choose each row's grid: the least squared error, columns weighed by `importance`.

    Args:
        values: `[rows, columns]`.
        importance: `[columns]`, not negative.
        form: the bits, and whether the zero is fixed.
        shrinks: shares of the rows' ranges to try; numbers beyond are clipped.

    Returns:
        Scales `[rows]`, not 0, and zeros `[rows]`.
    """
    best = np.full(len(values), np.inf, np.float32)
    scales, zeros = np.ones_like(best), np.full(len(values), form.middle, np.uint8)
    for scale, zero in _grids(values, form, shrinks):
        code = encode(values, scale[:, None], zero[:, None], form)
        found = np.square(decode(code, scale[:, None], zero[:, None]) - values) @ importance
        better = found < best
        best[better], scales[better], zeros[better] = found[better], scale[better], zero[better]
    return scales, zeros


def encode(values: Floats, scale: Floats, zero: Codes, form: Format) -> Codes:
    """Round to the nearest number that a grid has."""
    codes: Codes = np.clip(np.rint(values / scale) + zero, 0, form.top).astype(np.uint8)
    return codes


def decode(codes: Codes, scale: Floats, zero: Codes) -> Floats:
    """Return what stored numbers stand for."""
    decoded: Floats = (codes.astype(np.float32) - zero) * scale
    return decoded


def _grids(
    values: Floats, form: Format, shrinks: Sequence[float]
) -> Iterator[tuple[Floats, Codes]]:
    """Yield grids over shares of the range. A symmetric one reaches further down: its scale has a
    sign, so that the number of largest magnitude lies at that end."""
    low, high = np.minimum(values.min(axis=1), 0), np.maximum(values.max(axis=1), 0)
    middle = np.full(len(values), form.middle, np.uint8)
    widest = np.where(-low > high, low, high)
    for shrink in shrinks:
        if form.symmetric:
            yield form.scales(_not_zero(-widest * np.float32(shrink) / form.middle)), middle
        else:
            scale = form.scales(_not_zero((high - low) * np.float32(shrink) / form.top))
            zero = np.clip(np.rint(-low * np.float32(shrink) / scale), 0, form.top)
            yield scale, zero.astype(np.uint8)


def _not_zero(scale: Floats) -> Floats:
    return np.where(scale == 0, np.float32(1), scale).astype(np.float32)
