"""PocketGPT's exporter: a GPT-2 checkpoint to a model folder, proven equal to PyTorch."""

from .exporting import export
from .verifying import verify

__all__ = ["export", "verify"]
