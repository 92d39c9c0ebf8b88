"""manifest.json: the folder as a Model Package, which ONNX Runtime 1.32 opens in any language.

ONNX Runtime takes the first variant listed for the execution provider that it runs on. It refuses
fields that it does not know, and folders whose files are links out of them, as the hub's cache has.
"""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import Any

from ..manifest import Manifest, variant_path
from ..pairing import CPU, PREFERRED_ANYWHERE, devices_of

MODEL_PACKAGE = "manifest.json"
COMPONENT = "model"  # the name that ONNX Runtime GenAI's packages have for it


def model_package(manifest: Manifest) -> dict[str, Any]:
    """Return the package's table of contents."""
    names = list(manifest.variants)
    first = [name for name in PREFERRED_ANYWHERE if name in names]
    listed = {name: _entry(name, CPU) for name in dict.fromkeys([*first, *names])}
    for provider, suitable in devices_of(manifest.graph).items():
        short = provider.removesuffix("ExecutionProvider").lower()
        listed |= {f"{name}-{short}": _entry(name, provider) for name in suitable if name in names}
    return {"schema_version": "1.0", "components": {COMPONENT: {"variants": listed}}}


def _entry(name: str, provider: str) -> dict[str, Any]:
    path = PurePosixPath(variant_path(name))
    return {
        "variant_directory": str(path.parent),
        "ep": provider,
        "executor_info": {"ort": {"model_file": path.name}},
    }
