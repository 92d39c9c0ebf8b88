"""Execution providers: by which names, with which options, and why one is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import onnxruntime as ort
import pytest

import pocketgpt
from pocketgpt import OptionError, ProviderError
from pocketgpt.engine.providers import resolve_provider

from ..conftest import Cli, Finished

CUDA = "CUDAExecutionProvider"


@pytest.mark.parametrize("provider", ["auto", "cpu", "CPUExecutionProvider"])
def test_the_cpu_by_each_of_its_names(tiny_folder: Path, provider: str) -> None:
    assert resolve_provider(provider) == ("CPUExecutionProvider", {})
    assert pocketgpt.load(tiny_folder, "fp32", provider=provider).variant == "fp32"


@pytest.mark.parametrize(
    ("provider", "advice"),
    [
        (CUDA, "pip uninstall -y onnxruntime && pip install onnxruntime-gpu"),
        ("OpenVINOExecutionProvider", "pip install onnxruntime-openvino"),
        ("cuda", f"ONNX Runtime calls it {CUDA}"),
        ("DnnlExecutionProvider", "it takes an ONNX Runtime built for it"),
        ("gpu", "there are auto, cpu, .*CUDA"),
        ("", "there are auto, cpu, .*CUDA"),
        ((CUDA, {"device_id": 1}), "onnxruntime-gpu brings it"),
        (f"{CUDA}:device_id=1", "onnxruntime-gpu brings it"),
    ],
)
def test_one_that_is_not_there_says_what_is(tiny_folder: Path, provider: Any, advice: str) -> None:
    says = rf"is not in this ONNX Runtime, which has .*CPUExecutionProvider; .*{advice}"
    with pytest.raises(ProviderError, match=says) as caught:
        pocketgpt.load(tiny_folder, "fp32", provider=provider)
    assert "\n" not in str(caught.value)


@pytest.fixture
def pretend_cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    """An ONNX Runtime that says it has CUDA, as onnxruntime-gpu does where no driver is."""
    monkeypatch.setattr(ort, "get_available_providers", lambda: [CUDA, "CPUExecutionProvider"])


@pytest.mark.filterwarnings("ignore:Specified provider")  # ONNX Runtime's own
@pytest.mark.usefixtures("pretend_cuda")
def test_one_that_does_not_become_active_is_an_error(tiny_folder: Path) -> None:
    says = "did not become active, only CPUExecutionProvider did; .* onnxruntime-gpu needs"
    with pytest.raises(ProviderError, match=says):
        pocketgpt.load(tiny_folder, "fp32", provider=CUDA)


@pytest.mark.usefixtures("pretend_cuda")
def test_one_that_cannot_run_the_graph_is_an_error(
    tiny_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*arguments: object, **keywords: object) -> None:
        assert keywords["enable_fallback"] == 0
        raise RuntimeError("no such device\nand a long trace")

    monkeypatch.setattr(ort, "InferenceSession", refuse)
    with pytest.raises(ProviderError, match=f"'{CUDA}' cannot run .*: no such device$"):
        pocketgpt.load(tiny_folder, "fp32", provider=CUDA)


@pytest.mark.usefixtures("pretend_cuda")
@pytest.mark.parametrize(
    "provider",
    [
        (CUDA, {"device_id": 1, "gpu_mem_limit": 2_000}),
        f"{CUDA}:device_id=1,gpu_mem_limit=2000",
    ],
)
def test_options_reach_onnxruntime_as_strings(
    tiny_folder: Path, monkeypatch: pytest.MonkeyPatch, provider: Any
) -> None:
    given: list[object] = []
    original = ort.InferenceSession

    def open_session(path: object, options: object, providers: list[object], **_: Any) -> Any:
        given.extend(providers)
        return original(path, options, providers=["CPUExecutionProvider"])

    monkeypatch.setattr(ort, "InferenceSession", open_session)
    with pytest.raises(ProviderError, match="did not become active"):
        pocketgpt.load(tiny_folder, "fp32", provider=provider)
    assert given == [(CUDA, {"device_id": "1", "gpu_mem_limit": "2000"})]


@pytest.mark.parametrize(
    ("provider", "says"),
    [
        (5, "provider should be a name, or a tuple"),
        (None, "provider should be a name, or a tuple"),
        ((CUDA,), "provider should be a name, or a tuple"),
        ((CUDA, 1), "provider should be a name, or a tuple"),
        (f"{CUDA}:", "NAME:OPTION=VALUE"),
        (f"{CUDA}:device_id", "NAME:OPTION=VALUE"),
        (f"{CUDA}:=1", "NAME:OPTION=VALUE"),
        ("cpu:arena=1", "the CPU takes no options, not arena"),
    ],
)
def test_what_cannot_be_read_is_refused(tiny_folder: Path, provider: Any, says: str) -> None:
    with pytest.raises(OptionError, match=says):
        pocketgpt.load(tiny_folder, "fp32", provider=provider)


def test_the_command_line_takes_options(cli: Cli, tiny_folder: Path) -> None:
    def run(provider: str) -> Finished:
        return cli("generate", tiny_folder, "A", "--provider", provider)

    code, text, errors = run(f"{CUDA}:device_id=1")
    assert (code, text) == (1, "")
    assert "onnxruntime-gpu brings it" in errors
    assert run(f"{CUDA}:device_id")[0] == 2
    assert run("cpu")[0] == 0
