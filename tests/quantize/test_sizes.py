"""What variants of GPT-2's own shape, 124 million generated weights, take on disk."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from pocketgpt_quantize import quantize

GPT2 = {"vocab_size": 50_257, "n_embd": 768, "n_head": 12, "n_layer": 12, "n_positions": 1024}
MEGABYTES = {"int8": 133, "q4": 76}  # graph and weights, at most


@pytest.mark.slow
def test_sizes(folder_of_shape: Callable[..., Path]) -> None:
    reports = quantize(folder_of_shape("fused", **GPT2), [*MEGABYTES], accept_loss=True)
    for report in reports:
        assert report.variant.bytes <= 1_000_000 * MEGABYTES[report.name]
