"""What narrows the draw of the next token: functions of one text's scores that say which stay.

Each equals a class in transformers' `generation/logits_process.py`, which its docstring names where
the name differs. `keep` is how many of the best tokens stay whatever happens.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..topk import largest, nearly_largest, reach
from .base import MINUS_INFINITY, Ids, Logits

_NUCLEUS = 256  # likeliest tokens among which top_p is tried first


def keep_top_k(scores: Logits, top_k: int, keep: int = 1) -> Ids:
    """Return the indices of the `top_k` best scores, and of any that tie with the last of them."""
    return largest(scores, min(max(top_k, keep), len(scores)))


def keep_top_p(scores: Logits, top_p: float, keep: int = 1) -> Ids:
    """Return the smallest set of best tokens whose probabilities reach `top_p`.

    Of equally likely ones at its edge those of higher indices stay. Nucleus sampling,
    https://arxiv.org/abs/1904.09751.
    """
    weights = np.exp(scores - scores.max())
    total = float(weights.sum(dtype=np.float64))
    among = None
    if len(scores) > 4 * _NUCLEUS:
        among = nearly_largest(scores, _NUCLEUS)
        if weights[among].sum(dtype=np.float64) < top_p * total:
            edge = -reach(-scores, weights, top_p * total, width=10)
            among = np.flatnonzero(scores >= edge)
            if len(among) >= keep and np.count_nonzero(scores[among] == edge) == 1:
                return among
        scores, weights = scores[among], weights[among]
    order = np.argsort(scores, kind="stable")  # the best last
    below = total - float(weights.sum(dtype=np.float64)) if among is not None else 0.0
    sums = below + np.cumsum(weights[order], dtype=np.float64)
    dropped = int(sums.searchsorted((1 - top_p) * total, side="right"))
    kept = np.sort(order[max(0, min(dropped, len(order) - keep)) :])
    return kept if among is None else among[kept]


def keep_min_p(scores: Logits, min_p: float, keep: int = 1) -> Ids:
    """Return the tokens at least `min_p` times as likely as the likeliest one.

    https://arxiv.org/abs/2407.01082
    """
    weights = np.exp(scores - scores.max())
    weights /= weights.sum()
    kept = np.flatnonzero(weights >= np.float32(min_p) * weights.max())
    return kept if len(kept) >= keep else np.union1d(kept, _best(scores, keep))


def keep_typical(scores: Logits, typical_p: float, keep: int = 1) -> Ids:
    """Return the tokens whose information is closest to the entropy, as many as reach `typical_p`.

    Locally typical sampling, https://arxiv.org/abs/2202.00666; transformers' TypicalLogitsWarper.
    """
    shifted = scores - scores.max()
    weights = np.exp(shifted)
    total = weights.sum()
    normalizer = np.log(total)
    entropy = normalizer - np.dot(weights, np.where(weights > 0, shifted, 0)) / total
    distance = np.abs(normalizer - shifted - entropy)
    edge = reach(distance, weights, typical_p * float(weights.sum(dtype=np.float64)), width=6)
    kept = np.flatnonzero(distance <= edge)
    if len(kept) < keep:
        nearest = np.argsort(distance, kind="stable")[:keep]
        kept = np.union1d(kept, nearest)
    return kept


def exclude_top(scores: Logits, threshold: float) -> Ids:
    """Return all tokens but the likeliest: of those that reach `threshold` the last one stays.

    XTC, "exclude top choices", by llama.cpp's definition (`llama_sampler_xtc_apply`).
    """
    weights = np.exp(scores - scores.max())
    reaching = np.flatnonzero(weights >= np.float32(threshold) * weights.sum())
    if len(reaching) < 2:
        return np.arange(len(scores))
    # As llama.cpp's sort leaves them: of equal ones the first in the vocabulary come first.
    order = np.argsort(-scores[reaching], kind="stable")
    return np.setdiff1d(np.arange(len(scores)), reaching[order[:-1]])


def scatter(scores: Logits, ids: Ids, size: int) -> Logits:
    """Return scores `[size]` with those of `ids`; all others are ruled out."""
    result = np.full(size, MINUS_INFINITY)
    result[ids] = scores
    return result


def _best(scores: Logits, count: int) -> NDArray[np.int64]:
    """Return the indices of `count` best scores, of equals at the edge the last."""
    return np.argsort(scores, kind="stable")[-count:]
