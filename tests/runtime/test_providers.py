"""Execution providers: by which names, with which options, and why one is refused."""

from __future__ import annotations

import os
import platform
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import onnxruntime as ort
import pytest

import pocketgpt
from pocketgpt import OptionError, ProviderError, ProviderWarning, VariantNotFoundError
from pocketgpt.engine import plugins
from pocketgpt.engine.native_log import last_reason, said_while
from pocketgpt.engine.providers import find_provider, full_name, short_name
from pocketgpt.folder.opening import open_folder
from pocketgpt.folder.pairing import remark_on, suitable_variants
from pocketgpt.generation import generator

from ..conftest import Cli, Finished

CUDA = "CUDAExecutionProvider"


@pytest.mark.parametrize("provider", ["auto", "cpu", "CPUExecutionProvider"])
def test_the_cpu_by_each_of_its_names(tiny_folder: Path, provider: str) -> None:
    found = find_provider(provider)
    assert (found.name, found.options) == ("CPUExecutionProvider", {})
    assert pocketgpt.load(tiny_folder, "fp32", provider=provider).variant == "fp32"


@pytest.mark.parametrize(
    ("provider", "advice"),
    [
        (CUDA, "pip uninstall -y onnxruntime && pip install onnxruntime-gpu"),
        ("OpenVINOExecutionProvider", "pip install onnxruntime-openvino"),
        ("cuda", "pip uninstall -y onnxruntime && pip install onnxruntime-gpu"),
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


SLOW = "ignore:fp32 is slow on CUDAExecutionProvider:pocketgpt.ProviderWarning"


@pytest.fixture
def pretend_cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    """An ONNX Runtime that says it has CUDA, as onnxruntime-gpu does where no driver is."""
    monkeypatch.setattr(ort, "get_available_providers", lambda: [CUDA, "CPUExecutionProvider"])


@pytest.mark.filterwarnings("ignore:Specified provider")  # ONNX Runtime's own
@pytest.mark.filterwarnings(SLOW)
@pytest.mark.usefixtures("pretend_cuda")
def test_one_that_does_not_become_active_is_an_error(tiny_folder: Path) -> None:
    says = "did not become active, only CPUExecutionProvider did: .* onnxruntime-gpu needs"
    with pytest.raises(ProviderError, match=says):
        pocketgpt.load(tiny_folder, "fp32", provider=CUDA)


@pytest.mark.filterwarnings(SLOW)
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


@pytest.mark.filterwarnings(SLOW)
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
    assert given[0] == (CUDA, {"device_id": "1", "gpu_mem_limit": "2000"})


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


@pytest.mark.parametrize(
    ("written", "name"),
    [
        ("cuda", CUDA),
        ("CUDA", CUDA),
        ("cudaexecutionprovider", CUDA),
        ("TensorRT", "TensorrtExecutionProvider"),
        ("openvino", "OpenVINOExecutionProvider"),
        ("coreml", "CoreMLExecutionProvider"),
        ("directml", "DmlExecutionProvider"),
        ("dml", "DmlExecutionProvider"),
        ("webgpu", "WebGpuExecutionProvider"),
        ("qnn", "QNNExecutionProvider"),
        ("xnnpack", "XnnpackExecutionProvider"),
        ("migraphx", "MIGraphXExecutionProvider"),
        ("vitisai", "VitisAIExecutionProvider"),
        ("ggml", "ggml"),
    ],
)
def test_short_names_are_onnxruntimes_in_any_case(written: str, name: str) -> None:
    assert full_name(written) == name
    assert full_name(short_name(name)) == name


@pytest.fixture
def plugin(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[tuple[str, str]]:
    """An installed package whose library brings a provider with two devices; what is registered."""
    package = tmp_path / "onnxruntime_ep_made_up"
    package.mkdir()
    (package / "__init__.py").write_text(
        "def get_ep_names(): return ['MadeUpExecutionProvider']\n"
        "def get_library_path(): return '/lib/made_up.so'\n"
    )
    (tmp_path / "onnxruntime_ep_broken.py").write_text("raise OSError('no such library')\n")
    monkeypatch.syspath_prepend(tmp_path)
    registered: list[tuple[str, str]] = []

    def device(kind: str) -> Any:
        hardware = SimpleNamespace(
            type=SimpleNamespace(name=kind), vendor="V", vendor_id=1, device_id=2, metadata={}
        )
        return SimpleNamespace(
            ep_name="MadeUpExecutionProvider", ep_vendor="V", ep_metadata={}, device=hardware
        )

    made = [device("CPU"), device("GPU")]
    monkeypatch.setattr(plugins, "_loaded", {})
    monkeypatch.setattr(
        ort, "register_execution_provider_library", lambda *given: registered.append(given)
    )
    monkeypatch.setattr(ort, "get_ep_devices", lambda: made if registered else [])
    return registered


def test_an_installed_plugin_is_found_and_loaded_once(plugin: list[tuple[str, str]]) -> None:
    for _ in range(2):
        found = find_provider("madeup:speed=high")
        assert (found.name, found.options) == ("MadeUpExecutionProvider", {"speed": "high"})
        assert [one.device.type.name for one in found.devices] == ["CPU"]
    assert plugin == [("MadeUpExecutionProvider", "/lib/made_up.so")]
    gpu = find_provider(("MadeUp", {"device_type": "GPU"}))
    assert (gpu.devices[0].device.type.name, gpu.options) == ("GPU", {})
    second = find_provider("madeup:device_id=1")
    assert second.devices[0].device.type.name == "GPU"
    with pytest.raises(
        ProviderError, match=r"no device device_type=NPU.*: its devices here are CPU, GPU"
    ):
        find_provider("madeup:device_type=NPU")


def test_a_plugin_may_be_named_by_its_library(plugin: list[tuple[str, str]]) -> None:
    found = find_provider("MadeUpExecutionProvider:library=/elsewhere/made_up.so,speed=high")
    assert plugin == [("MadeUpExecutionProvider", "/elsewhere/made_up.so")]
    assert found.options == {"speed": "high"}
    with pytest.raises(ProviderError, match=r"'other' finds no device here \(/x.so was"):
        find_provider("other:library=/x.so")


def test_a_library_that_cannot_be_loaded_says_why(tmp_path: Path) -> None:
    library = tmp_path / "none.so"
    with pytest.raises(ProviderError, match=rf"'WebGpu.*' cannot be loaded: .*{library}"):
        find_provider(("webgpu", {"library": str(library)}))


def test_onnxruntimes_own_reason_is_read_from_its_log() -> None:
    log = (
        "\x1b[0;93m2026-01-01 [W:onnxruntime:Default, a.cc:1 F] no such device\x1b[m\n"
        "\x1b[1;31m2026-01-01 [E:onnxruntime:Default, b.cc:2 G] /src/bridge.cc:9 "
        "Get() [ONNXRuntimeError] : 1 : FAIL : libcublas.so.12 is missing\x1b[m\n"
        "2026-01-01 [W:onnxruntime:Default, c.cc:3 H] Failed to create it\n"
    )
    assert last_reason(log) == "libcublas.so.12 is missing"
    assert last_reason(log.splitlines()[2]) == "Failed to create it"
    assert last_reason("nothing of the kind") is None

    def run() -> None:
        os.write(2, log.encode())
        raise RuntimeError

    assert said_while(run) == "libcublas.so.12 is missing"


@pytest.mark.parametrize(
    ("provider", "graph", "first"),
    [
        (CUDA, "fused", "fp16"),
        (CUDA, "portable", "fp32"),
        ("QNNExecutionProvider", "portable", "int8_static"),
        ("OpenVINOExecutionProvider", "portable", "fp32"),
    ],
)
def test_variants_by_provider(provider: str, graph: Any, first: str) -> None:
    assert suitable_variants(provider, graph)[0] == first


def test_no_variant_is_opened_that_does_not_suit(tiny_folder: Path) -> None:
    with pytest.raises(VariantNotFoundError, match=r"none of .* int8, q4, suits CUDA.* fp16'"):
        open_folder(tiny_folder, provider=CUDA)
    assert open_folder(tiny_folder, "q4", provider=CUDA).variant == "q4"
    assert open_folder(tiny_folder, provider="DmlExecutionProvider").variant == "fp32"


def test_pairs_known_to_be_slow_are_remarked_on(
    tiny_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cpu = "CPUExecutionProvider"
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    remark = remark_on(cpu, "fused", "fp16", ["fp32", "fp16", "int8"])
    assert remark is not None
    assert "int8 suits it" in remark
    monkeypatch.setattr(platform, "machine", lambda: "aarch64")
    assert remark_on(cpu, "fused", "fp16", ["fp32"]) is None
    q8 = remark_on(CUDA, "fused", "q8", ["fp32", "q8"])
    assert q8 is not None
    assert q8.endswith("make one: pocketgpt quantize FOLDER fp16")
    assert remark_on(CUDA, "fused", "fp16", ["fp16"]) is None
    assert remark_on(CUDA, "portable", "fp32", ["fp32"]) is None
    monkeypatch.setattr(generator, "remark_on", lambda *_: "fp32 is slow on it")
    with pytest.warns(ProviderWarning, match="fp32 is slow on it") as seen:
        pocketgpt.load(tiny_folder, "fp32")
    assert seen[0].filename == __file__
