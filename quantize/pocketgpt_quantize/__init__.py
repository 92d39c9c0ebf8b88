"""PocketGPT's quantizer: smaller variants of a model folder, each with its loss measured."""

from .quantizing import quantize
from .report import VariantReport

__all__ = ["VariantReport", "quantize"]
