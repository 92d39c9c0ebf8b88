"""PocketGPT's quantizer: smaller variants of a model folder, each with its loss measured."""

from .quantize import quantize

__all__ = ["quantize"]
