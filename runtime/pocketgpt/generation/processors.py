"""What narrows the draw of the next token: pure functions on `[batch_size, vocab]` logits.

Each equals a class in transformers' `generation/logits_process.py`, which its docstring names where
the name differs. A token that may not be drawn gets minus infinity. `min_tokens_to_keep` is how
many of the best tokens stay whatever happens. penalties.py and constraints.py hold the others.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .topk import largest, leading

Logits = NDArray[np.float32]

_MINUS_INFINITY = np.float32(-np.inf)


def apply_temperature(logits: Logits, temperature: float) -> Logits:
    """Divide by `temperature`: above 1 flattens the distribution, below 1 sharpens it."""
    return logits / np.float32(temperature)


def keep_top_k(logits: Logits, top_k: int, min_tokens_to_keep: int = 1) -> Logits:
    """Keep the `top_k` most likely tokens, and any that tie with the last of them."""
    top_k = min(max(top_k, min_tokens_to_keep), logits.shape[-1])
    result = np.full_like(logits, _MINUS_INFINITY)
    for row, kept in zip(logits, result, strict=True):
        best = largest(row, top_k)
        kept[best] = row[best]
    return result


def keep_top_p(logits: Logits, top_p: float, min_tokens_to_keep: int = 1) -> Logits:
    """Keep the smallest set of most likely tokens whose probabilities reach `top_p`.

    Of equally likely ones at its edge those of higher ids stay. Nucleus sampling,
    https://arxiv.org/abs/1904.09751.
    """
    result = logits.copy()
    for row in result:
        ascending = np.sort(row[row > _MINUS_INFINITY])
        dropped = leading(np.exp(ascending - ascending[-1]), 1 - top_p)
        dropped = max(0, min(dropped, len(ascending) - min_tokens_to_keep))
        edge = ascending[dropped]
        row[row < edge] = _MINUS_INFINITY
        # Of equal ones at the edge as many go as stand before it.
        if tied := dropped - int(ascending.searchsorted(edge)):
            row[np.flatnonzero(row == edge)[:tied]] = _MINUS_INFINITY
    return result


def keep_min_p(logits: Logits, min_p: float, min_tokens_to_keep: int = 1) -> Logits:
    """Keep the tokens at least `min_p` times as likely as the likeliest one.

    https://arxiv.org/abs/2407.01082
    """
    probabilities = softmax(logits)
    dropped = probabilities < np.float32(min_p) * probabilities.max(axis=-1, keepdims=True)
    count = min(min_tokens_to_keep, logits.shape[-1])
    best = np.argpartition(logits, -count, axis=-1)[:, -count:]
    np.put_along_axis(dropped, best, False, axis=-1)
    return np.where(dropped, _MINUS_INFINITY, logits)


def keep_typical(logits: Logits, typical_p: float, min_tokens_to_keep: int = 1) -> Logits:
    """Keep the tokens whose information is closest to the entropy, as many as reach `typical_p`.

    Locally typical sampling, https://arxiv.org/abs/2202.00666; transformers' TypicalLogitsWarper.
    """
    log_probabilities = log_softmax(logits)
    probabilities = np.exp(log_probabilities)
    finite = np.where(probabilities > 0, log_probabilities, 0)
    entropy = -(finite * probabilities).sum(axis=-1, keepdims=True)
    distance = np.abs(-log_probabilities - entropy)
    order = np.argsort(distance, axis=-1, kind="stable")
    distance = np.take_along_axis(distance, order, axis=-1)
    reached = np.cumsum(np.take_along_axis(probabilities, order, axis=-1), axis=-1)
    last = np.minimum((reached < typical_p).sum(axis=-1), logits.shape[-1] - 1)
    dropped = distance > np.take_along_axis(distance, last[:, None], axis=-1)
    dropped[:, :min_tokens_to_keep] = False
    result = np.empty_like(logits)
    kept = np.where(dropped, _MINUS_INFINITY, np.take_along_axis(logits, order, axis=-1))
    np.put_along_axis(result, order, kept, axis=-1)
    return result


def softmax(logits: Logits) -> Logits:
    """Return probabilities along the last axis."""
    weights: Logits = np.exp(logits - logits.max(axis=-1, keepdims=True))
    total: Logits = weights.sum(axis=-1, keepdims=True)
    return weights / total


def log_softmax(logits: Logits) -> Logits:
    """Return natural log-probabilities along the last axis."""
    shifted: Logits = logits - logits.max(axis=-1, keepdims=True)
    normalizer: Logits = np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
    return shifted - normalizer
