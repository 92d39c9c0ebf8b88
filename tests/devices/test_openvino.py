"""OpenVINO on a CPU: the CPU provider's greedy tokens, computed in float32."""

from __future__ import annotations

import json

import pytest

from pocketgpt.engine.graph import Graph
from pocketgpt.engine.placement import EXACT, HOST

from .conftest import PROVIDERS, OpenGraph

pytestmark = pytest.mark.device("openvino")

# Processors with BF16 compute in it unless told otherwise.
EXACT_FLOATS = json.dumps({"CPU": {"INFERENCE_PRECISION_HINT": "f32"}})
PROVIDER = PROVIDERS["openvino"], {"device_type": "CPU", "load_config": EXACT_FLOATS}
PROMPTS = [[5, 6, 7], [301, 4, 77, 12, 256, 9, 33], [250]]


@pytest.fixture(scope="module", params=["portable", "fused"])
def graphs(request: pytest.FixtureRequest, open_model: OpenGraph) -> tuple[Graph, Graph]:
    """A graph by OpenVINO, and by the CPU provider."""
    return open_model(request.param, "fp32", PROVIDER), open_model(request.param)


def test_the_cache_is_the_hosts(graphs: tuple[Graph, Graph]) -> None:
    """Of a fused graph the attention is left to the CPU provider, which appends in place."""
    kind = graphs[0].contract.kind
    assert graphs[0].placement == (HOST if kind == "fused" else EXACT)


@pytest.mark.parametrize("prompt", PROMPTS, ids=str)
def test_greedy_tokens_equal_the_cpus(graphs: tuple[Graph, Graph], prompt: list[int]) -> None:
    made = []
    for graph in graphs:
        decoder = graph.decoder()
        logits, tokens = decoder.prefill(prompt), list[int]()
        for _ in range(40):
            tokens.append(int(logits[0].argmax()))
            logits = decoder.step(tokens[-1])
        made.append(tokens)
    assert made[0] == made[1]
    assert len(set(made[0])) > 5


def test_batches_of_different_lengths_equal_the_cpus(graphs: tuple[Graph, Graph]) -> None:
    made = []
    for graph in graphs:
        decoder = graph.decoder(3)
        logits, steps = decoder.fill(PROMPTS), list[list[int]]()
        for _ in range(20):
            steps.append(logits.argmax(axis=-1).tolist())
            logits = decoder.step(steps[-1])
        made.append(steps)
    assert made[0] == made[1]
