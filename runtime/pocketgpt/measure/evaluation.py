"""What an evaluation finds, whatever its metric."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Evaluation:
    """What `evaluate` found.

    Attributes:
        metric: its name.
        scores: by what the metric calls them: `bleu`, 0 to 100; `rouge1`, `rouge2` and `rougeL`,
            `exact`, or `acc` and `acc_bytes`, 0 to 1.
        signature: how the metric was set.
        pairs: how many prompts there were.
        texts: what was generated for each, or chosen by `acc`, in the file's order.
    """

    metric: str
    scores: Mapping[str, float]
    signature: str
    pairs: int
    texts: tuple[str, ...]
