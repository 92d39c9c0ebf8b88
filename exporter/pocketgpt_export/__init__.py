"""PocketGPT's exporter: a GPT-2 checkpoint to a model folder, proven equal to PyTorch."""

from .export import export
from .verify import verify

__all__ = ["export", "verify"]
