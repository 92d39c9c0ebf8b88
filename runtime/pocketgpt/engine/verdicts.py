"""What self-tests of providers found, remembered in the user's cache: a file a verdict.

A file's name is a hash of all that an answer may hang on: the graph and its fingerprint, the
provider with its options, device and driver as far as they are told, ONNX Runtime, and the test.
"""

from __future__ import annotations

import dataclasses
import json
import os
import platform
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnxruntime as ort

from ..errors import ModelFolderError
from ..folder.json_file import read_json_object
from .plugins import ep_devices
from .providers import Found

# A driver may be replaced without a word to ONNX Runtime: all is tried again after so long.
SECONDS_KEPT = 7 * 24 * 3600
_LARGEST = 1 << 20  # bytes of a file
# What else tells drivers apart: those that are chosen by a variable, and one that says its version.
_VARIABLES = ("CUDA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES", "VK_DRIVER_FILES", "VK_ICD_FILENAMES")
_DRIVER_FILES = ("/proc/driver/nvidia/version", "/sys/module/amdgpu/version")


@dataclass(frozen=True)
class SelfTest:
    """What a self-test found.

    Attributes:
        variant: the variant's name.
        graph: the SHA-256 of its graph.
        provider: ONNX Runtime's name.
        options: the provider's.
        device: what it runs on, as far as ONNX Runtime tells.
        onnxruntime: its version.
        differences: by check, the largest difference of a logit from the fingerprint's.
        allowed: the largest that holds.
        nodes: how many nodes run where; empty where ONNX Runtime does not tell.
        cpu_nodes: operator and name of those that fell to the CPU.
        seconds: how long the test took.
        time: when it ended, in seconds since 1970.
    """

    variant: str
    graph: str
    provider: str
    options: Mapping[str, str]
    device: str
    onnxruntime: str
    differences: Mapping[str, float]
    allowed: float
    nodes: Mapping[str, int]
    cpu_nodes: tuple[str, ...]
    seconds: float
    time: float

    @property
    def failed(self) -> tuple[str, ...]:
        """The checks that do not hold; a difference that is no number does not."""
        return tuple(check for check, off in self.differences.items() if not off <= self.allowed)

    @property
    def line(self) -> str:
        """What is wrong, and what to do, in a line."""
        wrong = [f"{self.differences[check]:.2g} in {check}" for check in self.failed]
        return (
            f"provider {self.provider!r} computes {self.variant} wrongly: logits differ by "
            f"{', '.join(wrong)}, over the {self.allowed:.2g} allowed; use provider='cpu', or a "
            f"newer driver or onnxruntime (pocketgpt verify FOLDER --provider {self.provider} then "
            "tests again), or selftest=False (--no-selftest) to run it all the same"
        )


def key_of(found: Found, graph: str, fingerprint: str, version: int) -> str:
    """Return what a verdict is kept by.

    Args:
        found: the provider.
        graph: the SHA-256 of a variant's graph and weights.
        fingerprint: of its fingerprint.
        version: of the self-test.
    """
    import hashlib  # as in folder's `sha256`

    told = [(one.ep_vendor, dict(one.ep_metadata), _hardware(one)) for one in _devices(found)]
    drivers = [os.environ.get(name) for name in _VARIABLES]
    drivers += [_text(path) for path in _DRIVER_FILES]
    machine = (platform.node(), platform.release(), platform.machine())
    everything = (graph, fingerprint, version, found.name, sorted(found.options.items()), told)
    content = json.dumps([*everything, drivers, machine, ort.__version__], sort_keys=True)
    return hashlib.sha256(content.encode("utf-8", "replace")).hexdigest()


def device_of(found: Found) -> str:
    """Say what a provider runs on, as far as ONNX Runtime tells."""
    return ", ".join(map(describe, _devices(found))) or "not told"


def describe(device: ort.OrtEpDevice) -> str:
    """Say in a few words what a device is."""
    metadata = {**device.ep_metadata, **device.device.metadata}
    named = (metadata.get(key) for key in ("FULL_DEVICE_NAME", "Description"))
    name = next(filter(None, named), device.device.vendor)
    return f"{device.device.type.name} {name}".strip()


def recall(key: str) -> SelfTest | None:
    """Return a verdict that holds still: none of long ago."""
    known = _read(_folder() / f"{key}.json")
    if known is None or not 0 <= time.time() - known.time < SECONDS_KEPT:
        return None
    return known


def remember(key: str, verdict: SelfTest) -> None:
    """Keep a verdict; where the cache cannot be written, the test runs again next time."""
    from ..folder import atomic  # as in manifest's `write_manifest`

    try:
        folder = _folder()
        folder.mkdir(parents=True, exist_ok=True)
        atomic.write_json(folder / f"{key}.json", dataclasses.asdict(verdict))
    except OSError:
        pass


def remembered(graphs: Mapping[str, str]) -> list[SelfTest]:
    """Return all verdicts on variants' graphs, by name, the newest first."""
    try:
        paths = [*_folder().glob("*.json")]
    except OSError:
        return []
    known = [verdict for path in paths if (verdict := _read(path)) is not None]
    ours = [one for one in known if graphs.get(one.variant) == one.graph]
    return sorted(ours, key=lambda one: one.time, reverse=True)


def _devices(found: Found) -> Sequence[ort.OrtEpDevice]:
    return found.devices or [one for one in ep_devices() if one.ep_name == found.name]


def _hardware(one: ort.OrtEpDevice) -> tuple[object, ...]:
    device = one.device
    return device.type.name, device.vendor_id, device.device_id, dict(device.metadata)


def _read(path: Path) -> SelfTest | None:
    """Read a verdict; None where it is missing or none."""
    try:
        fields: dict[str, Any] = read_json_object(path, largest=_LARGEST)
        verdict = SelfTest(**{**fields, "cpu_nodes": tuple(fields["cpu_nodes"])})
        _ = verdict.line, verdict.time + 0, dict(verdict.nodes)  # of the types they should be
    except (ModelFolderError, TypeError, ValueError, KeyError, AttributeError):
        return None
    return verdict


def _folder() -> Path:
    """Return where the user's cache has them, by each system's custom."""
    if given := os.environ.get("XDG_CACHE_HOME"):
        base = Path(given)
    elif sys.platform == "darwin":
        base = Path("~/Library/Caches").expanduser()
    elif sys.platform == "win32":
        base = Path(os.environ.get("LOCALAPPDATA") or Path("~/AppData/Local").expanduser())
    else:
        base = Path("~/.cache").expanduser()
    return base / "pocketgpt" / "selftests"


def _text(path: str) -> str | None:
    try:
        return Path(path).read_text("utf-8", "replace")
    except OSError:
        return None
