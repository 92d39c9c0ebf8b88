"""The cache in a device's memory: WebGPU in fp32, CUDA in half precision, its own."""

from __future__ import annotations

import numpy as np
import pytest

from pocketgpt.engine.buffers import BLOCK, DeviceBuffers, HostBuffers
from pocketgpt.engine.graph import Graph
from pocketgpt.engine.mover import Mover
from pocketgpt.engine.on_device import DevicePasses

from .conftest import PROVIDERS, OpenGraph
from .decoding import all_of_it, greedy, growth

pytestmark = pytest.mark.device("webgpu", "cuda")

VARIANTS = {"webgpu": "fp32", "cuda": "fp16"}
TOLERANCES = {"webgpu": 1e-3, "cuda": 0.1}  # of logits of about 10
PROMPTS = [[5, 6, 7], [301, 4, 77, 12, 256, 9, 33], [250]]


@pytest.fixture(scope="module")
def graph(open_model: OpenGraph, device: str) -> Graph:
    """The fused graph on the device."""
    return open_model("fused", VARIANTS[device], PROVIDERS[device])


@pytest.fixture(scope="module")
def reference(open_model: OpenGraph) -> Graph:
    """The fused graph in fp32 on the CPU."""
    return open_model("fused")


def test_the_session_tells_that_the_cache_is_on_the_device(graph: Graph, device: str) -> None:
    assert (graph.placement.device, graph.placement.apart) == (device, True)
    decoder = graph.decoder()
    assert isinstance(decoder._passes, DevicePasses)
    assert isinstance(decoder._cache, DeviceBuffers)


def test_buffers_grow_and_copy_as_the_hosts(graph: Graph) -> None:
    dtype, config = graph.contract.cache_dtype, graph.config
    mover = Mover(dtype, graph.placement, graph._provider)
    caches = DeviceBuffers(config, dtype, 3, mover), HostBuffers(config, dtype, 3)
    new = np.random.default_rng(3).normal(size=(2, 3, 2, 2, 50, 64)).astype(dtype)
    for cache in caches:
        cache.reserve(50)
        for slot in range(3):
            cache.write(slot, 0, *new[:, slot])
        cache.copy_slot(2, 0, 10, 30)
        cache.reserve(BLOCK + 1)
        cache.put(1, 60, [*new[0, :, 0, :, :4][:, None], *new[1, :, 1, :, :4][:, None]][:4])
    found, expected = ([cache.read(slot, 100) for slot in range(3)] for cache in caches)
    np.testing.assert_array_equal(found, expected)
    values = caches[0].values
    assert {value.device_name() for value in values} != {"cpu"}
    assert len({value.data_ptr() for value in values}) == len(values)


def test_logits_equal_the_cpus_as_the_buffers_grow(
    graph: Graph, reference: Graph, device: str
) -> None:
    found, expected = growth(graph.decoder()), growth(reference.decoder())
    np.testing.assert_allclose(found, expected, rtol=0, atol=TOLERANCES[device])


def test_logits_equal_the_cpus_whatever_slots_go_through(
    graph: Graph, reference: Graph, device: str
) -> None:
    found, expected = all_of_it(graph.decoder(3)), all_of_it(reference.decoder(3))
    np.testing.assert_allclose(found, expected, rtol=0, atol=TOLERANCES[device])


@pytest.mark.parametrize("prompt", PROMPTS, ids=str)
def test_greedy_tokens_fed_one_by_one_equal_the_cpus(
    graph: Graph, reference: Graph, prompt: list[int]
) -> None:
    assert greedy(graph.decoder(), prompt, 40) == greedy(reference.decoder(), prompt, 40)


def test_a_portable_graph_leaves_its_cache_on_the_device(
    open_model: OpenGraph, device: str
) -> None:
    """Of 8 tokens: at the ninth SwiftShader ends the process, with ONNX Runtime alone too."""
    graph, reference = open_model("portable", "fp32", PROVIDERS[device]), open_model("portable")
    assert graph.placement.apart
    decoders = [one.decoder(2) for one in (graph, reference)]
    for row in ([5, 6, 7], [8, 9]):
        found, expected = (one.append(row, slot=len(row) - 2).copy() for one in decoders)
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-3)
    for _ in range(4):
        found, expected = (one.step([10, 11]).copy() for one in decoders)
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-3)
    live = decoders[0]._passes._live  # type: ignore[attr-defined]
    assert {value.device_name() for value in live.present} != {"cpu"}
    np.testing.assert_allclose(decoders[0].read(1), decoders[1].read(1), rtol=0, atol=1e-3)
