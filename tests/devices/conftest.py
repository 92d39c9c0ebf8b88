"""What the tests of real devices share: which device this run is for, and its model folders.

`make test-webgpu`, `test-openvino` and `test-cuda` set POCKETGPT_DEVICE and POCKETGPT_FOLDERS.
PyTorch is not there: the reference is the CPU's fp32, which the other tests hold to PyTorch.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import onnxruntime as ort
import pytest

from pocketgpt.engine.graph import Graph, open_graph
from pocketgpt.engine.providers import Provider
from pocketgpt.folder.config import read_config
from pocketgpt.folder.manifest import variant_files

PROVIDERS = {
    "webgpu": "WebGpuExecutionProvider",
    "openvino": "OpenVINOExecutionProvider",
    "cuda": "CUDAExecutionProvider",
}
OpenGraph = Callable[..., Graph]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip what is for another device, with the reason."""
    here = os.environ.get("POCKETGPT_DEVICE", "")
    for item in items:
        marker = item.get_closest_marker("device")
        if marker is None:
            continue
        if here not in marker.args:
            reason = f"for {' and '.join(marker.args)}: make test-{marker.args[0]}"
            item.add_marker(pytest.mark.skip(reason=reason))
        elif PROVIDERS[here] not in ort.get_available_providers():
            item.add_marker(pytest.mark.skip(reason=f"this ONNX Runtime has no {PROVIDERS[here]}"))


@pytest.fixture(scope="session")
def device() -> str:
    """The device's name."""
    return os.environ["POCKETGPT_DEVICE"]


@pytest.fixture(scope="session")
def folders() -> Path:
    """Where the small model's folders lie, by kind of graph."""
    return Path(os.environ["POCKETGPT_FOLDERS"])


@pytest.fixture(scope="session")
def open_model(folders: Path) -> OpenGraph:
    """`(kind, variant, provider)` -> the small model's graph, opened."""

    def open_it(kind: str, variant: str = "fp32", provider: Provider = "cpu") -> Graph:
        folder = folders / kind
        path = folder / variant_files(variant)[0]
        return open_graph(path, read_config(folder), provider=provider)

    return open_it
