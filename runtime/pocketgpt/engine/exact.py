"""Passes over a fused graph whose attention does not append in place, or not for certain.

Everything has its exact shape: a past of so many tokens goes in, a present of one more comes out
and is the next step's past, so that two sets of buffers take turns. Rows of one pass have texts of
one length; others go through one by one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

import numpy as np

from .contract import NUM_LOGITS_TO_KEEP
from .fused import every_token
from .mover import Value
from .passes import Lengths, Logits
from .portable import PortablePasses


class ExactPasses(PortablePasses):
    """A fused graph as a portable one is run, which gives the logits of every token."""

    _also: ClassVar[Mapping[str, Value]] = {NUM_LOGITS_TO_KEEP: every_token()}

    def fill(self, prompts: Sequence[Sequence[int]], first: int) -> Logits:
        if len({len(prompt) for prompt in prompts}) == 1:
            return super().fill(prompts, first)
        rows = [self.append(prompt, slot, 0) for slot, prompt in enumerate(prompts, first)]
        return np.concatenate(rows)

    def step(self, token_ids: Sequence[int], lengths: Lengths) -> Logits:
        if (lengths == lengths[0]).all():
            return super().step(token_ids, lengths)
        rows = [
            self.append([token], slot, length)
            for slot, (token, length) in enumerate(zip(token_ids, lengths.tolist(), strict=True))
        ]
        return np.concatenate(rows)
