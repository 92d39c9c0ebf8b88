"""What makes tokens more or less likely: pure functions on `[batch_size, vocab]` logits.

`ids` are each row's token ids so far, `[batch_size, length]`, prompt included; `new_ids` the
generated ones alone.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from .processors import Logits

Ids = NDArray[np.int64]


def penalize_repetition(logits: Logits, ids: Ids, penalty: float) -> Logits:
    """Divide the logit of every token in the text by `penalty`, or multiply it where negative.

    https://arxiv.org/abs/1909.05858; transformers' RepetitionPenaltyLogitsProcessor.
    """
    rows = np.arange(len(ids))[:, None]
    seen = logits[rows, ids]
    factor = np.float32(penalty)
    result = logits.copy()
    result[rows, ids] = np.where(seen < 0, seen * factor, seen / factor)
    return result


def penalize_use(logits: Logits, new_ids: Ids, presence: float, frequency: float) -> Logits:
    """Subtract `presence` once, and `frequency` for each time, from generated tokens' logits.

    https://platform.openai.com/docs/api-reference/chat/create: `presence_penalty` and
    `frequency_penalty`.
    """
    result = logits.copy()
    for row, used in zip(result, new_ids, strict=True):
        tokens, counts = np.unique(used, return_counts=True)
        row[tokens] -= (presence + frequency * counts).astype(np.float32)
    return result


def add_bias(logits: Logits, bias: Mapping[int, float]) -> Logits:
    """Add to each token's logit what `bias` has for it; OpenAI's `logit_bias`."""
    result = logits.copy()
    result[:, list(bias)] += np.array(list(bias.values()), np.float32)
    return result
