"""Execution providers: what a name stands for, with which options, and why one is not there."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import onnxruntime as ort

from ..errors import OptionError, ProviderError

Provider = str | tuple[str, Mapping[str, Any]]

CPU = "CPUExecutionProvider"
_OWN_NAMES = {"auto": CPU, "cpu": CPU}
_SUFFIX = "ExecutionProvider"
# The wheels that bring a provider; each takes the place of the plain onnxruntime.
_WHEELS = {
    "CUDAExecutionProvider": "onnxruntime-gpu",
    "TensorrtExecutionProvider": "onnxruntime-gpu",
    "OpenVINOExecutionProvider": "onnxruntime-openvino",
    "DmlExecutionProvider": "onnxruntime-directml",
    "MIGraphXExecutionProvider": "onnxruntime-migraphx",
    "QNNExecutionProvider": "onnxruntime-qnn",
    "WebGpuExecutionProvider": "onnxruntime-webgpu",
}


def resolve_provider(provider: Provider) -> tuple[str, dict[str, str]]:
    """Return ONNX Runtime's name for a provider and its options, all strings.

    Args:
        provider: `auto`, `cpu`, or a name of ONNX Runtime's own; its options in a tuple with it, or
            written behind it as in `CUDAExecutionProvider:device_id=1,gpu_mem_limit=2000000000`.

    Raises:
        OptionError: that is no provider, or its options cannot be read.
        ProviderError: it is not in this ONNX Runtime; the message has what is, and the wheel.
    """
    name, options = _split(provider)
    name = _OWN_NAMES.get(name, name)
    if name == CPU and options:
        raise OptionError(f"provider: the CPU takes no options, not {', '.join(options)}")
    available = ort.get_available_providers()
    if name not in available:
        raise ProviderError(
            f"provider {name!r} is not in this ONNX Runtime, which has {', '.join(available)}; "
            f"{_advice(name)}"
        )
    return name, options


def check_active(name: str, session: ort.InferenceSession) -> None:
    """Check that a session runs on the provider it was made for.

    Raises:
        ProviderError: ONNX Runtime gave it up and took another.
    """
    if name in session.get_providers():
        return
    wheel = _WHEELS.get(name, "the provider")
    raise ProviderError(
        f"provider {name!r} was asked for and did not become active, only "
        f"{', '.join(session.get_providers())} did; ONNX Runtime has said why on standard error, "
        f"mostly a driver or library that {wheel} needs and does not find"
    )


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


def _advice(name: str) -> str:
    if name in _WHEELS:
        wheel = _WHEELS[name]
        return f"{wheel} brings it: pip uninstall -y onnxruntime && pip install {wheel}"
    known = {one.removesuffix(_SUFFIX).lower(): one for one in ort.get_all_providers()}
    meant = known.get(name.lower().removesuffix(_SUFFIX.lower()))
    if meant == name:
        return "it takes an ONNX Runtime built for it"
    if meant:
        return f"ONNX Runtime calls it {meant}"
    return f"there are auto, cpu, {', '.join(known.values())}"
