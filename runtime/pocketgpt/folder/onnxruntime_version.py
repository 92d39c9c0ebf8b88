"""Whether the installed ONNX Runtime is new enough."""

from __future__ import annotations

import onnxruntime as ort


def is_onnxruntime(oldest: str) -> bool:
    """Whether the installed ONNX Runtime is `oldest`, such as 1.32, or newer."""
    return _numbers(ort.__version__) >= _numbers(oldest)


def _numbers(version: str) -> list[int]:
    """Return a version's leading numbers, `1.24` of `1.24.0.dev2025` being 1, 24, 0."""
    numbers = []
    for part in version.split("."):
        if not part.isdecimal():
            break
        numbers.append(int(part))
    return numbers
