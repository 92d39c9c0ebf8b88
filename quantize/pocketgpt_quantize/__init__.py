"""PocketGPT's quantizer: smaller variants of a model folder, each with its loss measured."""

import pocketgpt as _pocketgpt  # noqa: F401  # first: it turns off ONNX Runtime's telemetry

from .quantizing import quantize
from .report import VariantReport

__all__ = ["VariantReport", "quantize"]
