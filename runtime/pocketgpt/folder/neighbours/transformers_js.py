"""config.json's `transformers.js_config`: which file transformers.js takes, and how.

A call's `dtype` goes before it. Without one, transformers.js would take model_quantized.onnx in a
browser, which few folders have, and fp32 elsewhere.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Any

from ..manifest import Manifest, variant_path
from ..pairing import PREFERRED_ANYWHERE, first_of

SETTINGS = "transformers.js_config"  # its name in config.json
DTYPES = (
    "fp32",
    "fp16",
    "int8",
    "q8",
    "q4",
    "q4f16",
)  # the variants it has words for
HALF_CACHES = ("fp16", "q4f16")  # variants whose keys and values are float16
# A browser downloads what it runs, so there any 8 or 4 bits go before 32; without a GPU q8 decodes
# three times as fast as int8 and q4, whose products WebAssembly has no fast code for. Not every GPU
# has half precision.
_ON_DEVICES = {
    "wasm": ("q8", "int8", "q4", "fp32"),
    "webgpu": ("q4", "fp32"),
    "cuda": ("fp16", "q4f16", "fp32"),
}


def transformers_js_config(manifest: Manifest) -> dict[str, Any]:
    """Return the settings for a folder's variants."""
    names = [name for name in manifest.variants if name in DTYPES]
    settings: dict[str, Any] = {}
    if default := first_of(PREFERRED_ANYWHERE, names):
        settings["dtype"] = default
    chosen = {device: first_of(suitable, names) for device, suitable in _ON_DEVICES.items()}
    settings["device_config"] = {
        device: {"dtype": dtype} for device, dtype in chosen.items() if dtype
    }
    # By file, so that whatever else somebody puts beside them keeps its own kind.
    files = [PurePosixPath(variant_path(name)).name for name in manifest.variants]
    settings["use_external_data_format"] = dict.fromkeys(files, True)
    if halves := [name for name in names if name in HALF_CACHES]:
        settings["kv_cache_dtype"] = dict.fromkeys(halves, "float16")
    return settings


def settings_of(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a config.json says to transformers.js; nothing where that is no object."""
    found = config.get(SETTINGS)
    return dict(found) if isinstance(found, Mapping) else {}
