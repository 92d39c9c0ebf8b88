"""Execution providers that come as libraries of their own, beside the onnxruntime installed.

Their wheels are modules that say where the library lies and what it provides. A library is loaded
once a process; what it brought is listed then, for ONNX Runtime tells the two kinds not apart.
"""

from __future__ import annotations

import pkgutil
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

import onnxruntime as ort

from ..errors import ProviderError
from .ort_errors import reason

# Modules of plugins: onnxruntime_ep_webgpu, onnxruntime_ep_openvino, ..., and two with other names.
_PREFIX = "onnxruntime_ep_"
_OTHERS = ("onnxruntime_qnn", "onnxruntime_ggml")

_loaded: dict[str, frozenset[str]] = {}  # by library, the providers with devices that it brought


@dataclass(frozen=True)
class Plugin:
    """An installed wheel: its module, the providers that it is for, and where their library is."""

    module: str
    names: tuple[str, ...]
    library: Callable[[], str]


def installed_plugins() -> list[Plugin]:
    """Find the wheels of plugins that are installed; one that cannot be read is passed over."""
    modules = [found.name for found in pkgutil.iter_modules()]
    ours = [name for name in modules if name.startswith(_PREFIX) or name in _OTHERS]
    return [plugin for name in sorted(ours) if (plugin := _read(name)) is not None]


def load_library(name: str, library: str) -> None:
    """Let ONNX Runtime know the providers of a library.

    Args:
        name: of the provider; some libraries call theirs by it.
        library: where it lies.

    Raises:
        ProviderError: it cannot be loaded.
    """
    path = str(Path(library).absolute())
    if path in _loaded:
        return
    before = {device.ep_name for device in ep_devices()}
    try:
        ort.register_execution_provider_library(name, path)
    except AttributeError:
        raise ProviderError(
            f"provider {name!r} comes as a library, which ONNX Runtime {ort.__version__} does not "
            "take: pip install -U onnxruntime"
        ) from None
    except Exception as error:  # ONNX Runtime's exceptions share no base of their own
        raise ProviderError(f"provider {name!r} cannot be loaded: {reason(error)}") from error
    _loaded[path] = frozenset(device.ep_name for device in ep_devices()) - before


def plugin_devices(name: str) -> tuple[ort.OrtEpDevice, ...]:
    """Return the devices of a provider that a library brought, in ONNX Runtime's order."""
    if not any(name in names for names in _loaded.values()):
        return ()
    return tuple(device for device in ep_devices() if device.ep_name == name)


def ep_devices() -> list[ort.OrtEpDevice]:
    """Return all devices that ONNX Runtime tells of; older ones tell of none."""
    return list(ort.get_ep_devices()) if hasattr(ort, "get_ep_devices") else []


def _read(module: str) -> Plugin | None:
    """Ask a wheel's module what it brings; onnxruntime_ggml has names of its own for that."""
    try:
        found = import_module(module)
    except Exception:  # whatever a stranger's module raises: it is of no use then
        return None
    one = getattr(found, "EP_NAME", None)
    names = found.get_ep_names() if hasattr(found, "get_ep_names") else [one]
    library = getattr(found, "get_library_path", None) or getattr(found, "library_path", None)
    known = tuple(name for name in names if isinstance(name, str))
    return Plugin(module, known, library) if known and callable(library) else None
