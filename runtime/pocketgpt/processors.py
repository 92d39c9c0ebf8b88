"""What shapes the next token's distribution: small pure functions on `[batch_size, vocab]` logits.

Each equals the class of the same name in transformers' `generation/logits_process.py`. A token that
may not be drawn gets minus infinity.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Logits = NDArray[np.float32]


def apply_temperature(logits: Logits, temperature: float) -> Logits:
    """Divide by `temperature`: above 1 flattens the distribution, below 1 sharpens it."""
    return logits / np.float32(temperature)


def keep_top_k(logits: Logits, top_k: int) -> Logits:
    """Keep the `top_k` most likely tokens, and any that tie with the last of them."""
    top_k = min(top_k, logits.shape[-1])
    threshold = np.partition(logits, -top_k, axis=-1)[:, -top_k, None]
    return np.where(logits < threshold, -np.inf, logits).astype(np.float32)


def keep_top_p(logits: Logits, top_p: float) -> Logits:
    """Keep the smallest set of most likely tokens whose probabilities reach `top_p`.

    Nucleus sampling, https://arxiv.org/abs/1904.09751; at least one token stays.
    """
    order = np.argsort(logits, axis=-1, kind="stable")
    ascending = np.take_along_axis(logits, order, axis=-1)
    dropped = np.cumsum(softmax(ascending), axis=-1) <= 1 - top_p
    dropped[:, -1] = False
    kept = np.where(dropped, np.float32(-np.inf), ascending)
    result = np.empty_like(logits)
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
