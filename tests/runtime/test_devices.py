"""What `devices` says of this machine, and of what is installed wrongly."""

from __future__ import annotations

import json
from importlib import metadata
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import onnxruntime as ort
import pytest

import pocketgpt
from pocketgpt.engine import plugins
from pocketgpt.engine.probe import why_inactive

from ..conftest import Cli


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def test_every_provider_is_there_or_can_be_had(tiny_folder: Path) -> None:
    found = {one.name: one for one in pocketgpt.devices(tiny_folder).providers}
    names = "cpu cuda tensorrt openvino coreml directml webgpu qnn xnnpack migraphx"
    assert [*found][:10] == names.split()
    assert "azure" not in found
    assert found["cpu"].available
    assert found["cpu"].devices[0].startswith("CPU")
    assert {"int8", "fp32"} == set(found["cpu"].variants)
    assert found["cuda"].variants == ()  # this folder has no variant in half precision
    for one in found.values():
        assert (one.missing is None) == one.available
    assert "pip install onnxruntime-gpu" in str(found["cuda"].missing)
    assert found["qnn"].missing == "onnxruntime-qnn adds it: pip install onnxruntime-qnn"


def test_without_a_folder_variants_are_what_suits_any(tiny_folder: Path) -> None:
    found = {one.name: one for one in pocketgpt.devices().providers}
    assert found["cuda"].variants == ("fp16", "q4f16", "fp32")


def test_what_self_tests_found_is_shown(cli: Cli, tiny_folder: Path) -> None:
    tested = pocketgpt.selftest(tiny_folder, "fp32", provider="cpu")
    (cpu, *_) = pocketgpt.devices(tiny_folder).providers
    assert cpu.selftests == (tested,)
    code, text, _ = cli("devices", tiny_folder)
    assert code == 0
    assert "self-test: fp32 on CPUExecutionProvider" in text
    assert ": ok, logits within" in text
    code, text, _ = cli("devices", tiny_folder, "--json")
    (first, *_) = json.loads(text)["providers"]
    assert first["selftests"][0]["differences"] == tested.differences


@pytest.mark.filterwarnings("ignore:Specified provider")  # ONNX Runtime's own
def test_a_built_in_provider_that_fails_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    cuda, cpu = "CUDAExecutionProvider", "CPUExecutionProvider"
    monkeypatch.setattr(ort, "get_available_providers", lambda: [cuda, cpu])
    found = {one.name: one for one in pocketgpt.devices().providers}
    assert (found["cuda"].available, found["cpu"].available) == (False, True)
    assert str(found["cuda"].missing).startswith("it does not become active")
    assert why_inactive(cpu) is None


def test_two_wheels_in_one_folder_are_told(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    assert pocketgpt.devices().conflicts == ()
    owners = {"onnxruntime": ["onnxruntime", "onnxruntime-gpu"], "numpy": ["numpy", "other"]}
    monkeypatch.setattr(metadata, "packages_distributions", lambda: owners)
    (line,) = pocketgpt.devices().conflicts
    assert line.endswith(
        "pip uninstall -y onnxruntime onnxruntime-gpu && pip install onnxruntime-gpu"
    )
    assert f"warning: {line}" in cli("devices").stdout


def test_plugins_are_listed_with_their_devices_or_why_there_are_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("good", "empty", "broken"):
        (tmp_path / f"onnxruntime_ep_{name}.py").write_text(
            f"def get_ep_names(): return ['{name}']\n"
            f"def get_library_path(): return '/lib/{name}.so'\n"
        )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(plugins, "_loaded", {})
    there: list[Any] = []

    def register(name: str, _: str) -> None:
        if name == "broken":
            raise RuntimeError("libvulkan.so.1 is missing\nand more")
        if name == "good":
            hardware = SimpleNamespace(type=SimpleNamespace(name="GPU"), vendor="V", metadata={})
            there.append(SimpleNamespace(ep_name=name, ep_metadata={}, device=hardware))

    monkeypatch.setattr(ort, "register_execution_provider_library", register)
    monkeypatch.setattr(ort, "get_ep_devices", lambda: there)
    found = {one.name: one for one in pocketgpt.devices().providers}
    assert (found["good"].available, found["good"].devices) == (True, ("GPU V",))
    assert found["empty"].missing == "onnxruntime_ep_empty finds no device here"
    assert found["broken"].missing == (
        "provider 'broken' cannot be loaded: libvulkan.so.1 is missing"
    )


def test_a_folder_that_is_none_is_refused(cli: Cli, tmp_path: Path) -> None:
    assert cli("devices", tmp_path).returncode == 1
