"""Execution providers: what a name stands for, with which options, and why one is not there.

A provider is built into the onnxruntime that is installed, or comes as a library beside it
(plugins.py). Short names are ONNX Runtime's own in small letters, and `directml`; case is nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import onnxruntime as ort

from ..errors import OptionError, ProviderError
from .plugins import ep_devices, installed_plugins, load_library, plugin_devices

Provider = str | tuple[str, Mapping[str, Any]]

CPU = "CPUExecutionProvider"
SHORT_NAMES = {
    "cpu": CPU,
    "cuda": "CUDAExecutionProvider",
    "tensorrt": "TensorrtExecutionProvider",
    "openvino": "OpenVINOExecutionProvider",
    "coreml": "CoreMLExecutionProvider",
    "directml": "DmlExecutionProvider",
    "webgpu": "WebGpuExecutionProvider",
    "qnn": "QNNExecutionProvider",
    "xnnpack": "XnnpackExecutionProvider",
    "migraphx": "MIGraphXExecutionProvider",
}
LIBRARY = "library"  # an option of ours: the path of a plugin's library
DEVICE_TYPE, DEVICE_ID = "device_type", "device_id"  # of a plugin: which of its devices
_OWN_NAMES = {"auto": CPU, **SHORT_NAMES}
_SUFFIX = "executionprovider"
# The wheels that bring a provider and take the place of the plain onnxruntime; those that stand
# beside it; and what else there is to say.
_WHEELS = {
    "CUDAExecutionProvider": "onnxruntime-gpu",
    "TensorrtExecutionProvider": "onnxruntime-gpu",
    "OpenVINOExecutionProvider": "onnxruntime-openvino",
    "DmlExecutionProvider": "onnxruntime-directml",
    "MIGraphXExecutionProvider": "onnxruntime-migraphx",
    "WebGpuExecutionProvider": "onnxruntime-webgpu",
}
_PLUGINS = {"QNNExecutionProvider": "onnxruntime-qnn", "ggml": "onnxruntime-ggml"}
_BUILT_IN = {"CoreMLExecutionProvider": "onnxruntime's wheels for macOS have it"}


@dataclass(frozen=True)
class Found:
    """A provider that is there: ONNX Runtime's name for it and its options, all strings.

    `devices` are those of a plugin that are to be used; a built-in one has none.
    """

    name: str
    options: Mapping[str, str]
    devices: tuple[ort.OrtEpDevice, ...] = ()

    @property
    def is_cpu(self) -> bool:
        """Whether it is ONNX Runtime's own for the CPU, which all is measured by."""
        return self.name == CPU


def find_provider(provider: Provider) -> Found:
    """Find a provider, and load the library that brings it, where one is installed or named.

    Args:
        provider: `auto`, `cpu`, a short name or ONNX Runtime's own; its options in a tuple with it,
            or written behind it as in `cuda:device_id=1,gpu_mem_limit=2000000000`. `library=PATH`
            names a plugin's library; `device_type=GPU` and `device_id=1` are which of the
            plugin's devices to use, or else its first.

    Raises:
        OptionError: that is no provider, or its options cannot be read.
        ProviderError: it is not in this ONNX Runtime; the message has what is, and the wheel.
    """
    written, options = _split(provider)
    name = full_name(written)
    if name == CPU:
        if options:
            raise OptionError(f"provider: the CPU takes no options, not {', '.join(options)}")
        return Found(CPU, {})
    library = options.pop(LIBRARY, None)
    if library is not None:
        load_library(name, library)
        return _of_plugin(name, options, library)
    if plugin_devices(name):
        return _of_plugin(name, options)
    if name in ort.get_available_providers():
        return Found(name, options)
    for plugin in installed_plugins():
        names = {_bare(one): one for one in plugin.names}
        if _bare(name) in names:
            name = names[_bare(name)]
            load_library(name, plugin.library())
            return _of_plugin(name, options, plugin.module)
    available = ", ".join(ort.get_available_providers())
    raise ProviderError(
        f"provider {written!r} is not in this ONNX Runtime, which has {available}; "
        f"{advice(name) or _known_names()}"
    )


def full_name(name: str) -> str:
    """Return ONNX Runtime's name for what is written in short, or otherwise in case."""
    if name.lower() in _OWN_NAMES:
        return _OWN_NAMES[name.lower()]
    known: list[str] = [*ort.get_all_providers(), *(device.ep_name for device in ep_devices())]
    return {_bare(one): one for one in known}.get(_bare(name), name)


def short_name(name: str) -> str:
    """Return a provider's name as one would write it: `cuda` for CUDAExecutionProvider."""
    by_full = {full.lower(): short for short, full in SHORT_NAMES.items()}
    return by_full.get(name.lower(), _bare(name))


def _bare(name: str) -> str:
    return name.lower().replace(_SUFFIX, "")


def check_active(found: Found, session: ort.InferenceSession, said: str | None) -> None:
    """Check that a session runs on the provider it was made for.

    Args:
        found: the provider.
        session: the open session.
        said: why not, as ONNX Runtime said it, if that is known.

    Raises:
        ProviderError: ONNX Runtime gave it up and took another.
    """
    if found.name in session.get_providers():
        return
    wheel = _WHEELS.get(found.name, "the provider")
    why = said or f"mostly a driver or library that {wheel} needs is missing"
    raise ProviderError(
        f"provider {found.name!r} was asked for and did not become active, only "
        f"{', '.join(session.get_providers())} did: {why}"
    )


def advice(name: str) -> str | None:
    """Say how a provider that is missing can be had; None for what is none."""
    if name in _WHEELS:
        wheel = _WHEELS[name]
        return f"{wheel} brings it: pip uninstall -y onnxruntime && pip install {wheel}"
    if name in _PLUGINS:
        return f"{_PLUGINS[name]} adds it: pip install {_PLUGINS[name]}"
    if name in _BUILT_IN:
        return _BUILT_IN[name]
    return "it takes an ONNX Runtime built for it" if name in ort.get_all_providers() else None


def _of_plugin(name: str, options: dict[str, str], library: str | None = None) -> Found:
    """Choose among the devices of a plugin; options for the choice do not reach it.

    Raises:
        ProviderError: it has none here, or none of that kind.
    """
    devices = plugin_devices(name)
    if not devices:
        others = sorted({device.ep_name for device in ep_devices()} - {CPU})
        raise ProviderError(
            f"provider {name!r} finds no device here ({library} was loaded"
            f"{', and brings ' + ', '.join(others) if others else ''}): mostly a driver is missing"
        )
    kind, number = options.pop(DEVICE_TYPE, None), options.pop(DEVICE_ID, "0")
    kinds = [device.device.type.name for device in devices]
    chosen = [d for d, its in zip(devices, kinds, strict=True) if kind in (None, its)]
    if not number.isdecimal() or int(number) >= len(chosen):
        raise ProviderError(
            f"provider {name!r} has no device {DEVICE_TYPE}={kind},{DEVICE_ID}={number}: its "
            f"devices here are {', '.join(kinds)}"
        )
    return Found(name, options, (chosen[int(number)],))


def _split(provider: object) -> tuple[str, dict[str, str]]:
    if isinstance(provider, str):
        name, colon, written = provider.partition(":")
        pairs = [pair.partition("=") for pair in written.split(",")] if colon else []
        if not all(key and equals for key, equals, _ in pairs):
            raise OptionError(
                f"provider should be NAME or NAME:OPTION=VALUE,OPTION=VALUE, not {provider!r}"
            )
        return name, {key: value for key, _, value in pairs}
    if isinstance(provider, tuple) and len(provider) == 2:
        name, options = provider
        if isinstance(name, str) and isinstance(options, Mapping):
            return name, {str(key): str(value) for key, value in options.items()}
    raise OptionError(
        f"provider should be a name, or a tuple of a name and its options, not {provider!r}"
    )


def _known_names() -> str:
    return f"there are auto, {', '.join(SHORT_NAMES)}, {', '.join(ort.get_all_providers())}"
