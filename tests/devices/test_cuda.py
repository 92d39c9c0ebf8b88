"""CUDA, wherever there is a GPU: nobody has run these yet."""

from __future__ import annotations

import numpy as np
import pytest

from .conftest import PROVIDERS, OpenGraph
from .decoding import greedy, growth

pytestmark = pytest.mark.device("cuda")

EXACT_FLOATS = PROVIDERS["cuda"], {"use_tf32": "0"}
CAPTURED = PROVIDERS["cuda"], {"enable_cuda_graph": "1"}
PROMPT = [301, 4, 77, 12, 256, 9, 33]


def test_half_precision_prompts_in_one_pass_equal_the_cpus(open_model: OpenGraph) -> None:
    found = open_model("fused", "fp16", PROVIDERS["cuda"]).decoder().score(PROMPT)
    expected = open_model("fused").decoder().score(PROMPT)
    np.testing.assert_allclose(found, expected, rtol=0, atol=0.1)


def test_four_bits_equal_the_cpus(open_model: OpenGraph) -> None:
    found = open_model("fused", "q4f16", PROVIDERS["cuda"]).decoder().score(PROMPT)
    expected = open_model("fused", "q4f16").decoder().score(PROMPT)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1.0)


def test_rows_of_different_lengths_are_stepped_together(open_model: OpenGraph) -> None:
    decoders = [
        open_model("fused", *variant).decoder(2)
        for variant in (("fp16", PROVIDERS["cuda"]), ("fp32", "cpu"))
    ]
    for decoder in decoders:
        decoder.fill([PROMPT, PROMPT[:2]])
    for _ in range(10):
        found, expected = (decoder.step([5, 6]).copy() for decoder in decoders)
        np.testing.assert_allclose(found, expected, rtol=0, atol=0.1)


def test_portable_greedy_tokens_equal_the_cpus(open_model: OpenGraph) -> None:
    graphs = open_model("portable", "fp32", EXACT_FLOATS), open_model("portable")
    found, expected = (greedy(graph.decoder(), PROMPT, 60) for graph in graphs)
    assert found == expected


def test_recorded_steps_equal_those_that_are_not(open_model: OpenGraph) -> None:
    """Over growth, and in a second decoder, which plays what the first one recorded."""
    plain = growth(open_model("fused", "fp16", PROVIDERS["cuda"]).decoder())
    graph = open_model("fused", "fp16", CAPTURED)
    assert graph.placement.captured
    for _ in range(2):
        np.testing.assert_allclose(growth(graph.decoder()), plain, rtol=0, atol=1e-2)
