"""PocketGPT's exporter: a GPT-2 checkpoint to a model folder, proven equal to PyTorch."""

import pocketgpt as _pocketgpt  # noqa: F401  # first: it turns off ONNX Runtime's telemetry

from .exporting import export
from .verifying import verify

__all__ = ["export", "verify"]
