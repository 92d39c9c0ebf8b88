"""PocketGPT's runtime: GPT-2 models from numpy, onnxruntime and tokenizers alone."""

from ._version import __version__
from .errors import (
    CheckpointError,
    MissingExtraError,
    ModelFolderError,
    OptionError,
    PocketGPTError,
    ProofError,
    ProviderError,
    QuantizationError,
    VariantNotFoundError,
)
from .generation import Timings
from .model import GenerationResult, Model, Stream, load
from .options import GenerationOptions
from .score import Score

__all__ = [
    "CheckpointError",
    "GenerationOptions",
    "GenerationResult",
    "MissingExtraError",
    "Model",
    "ModelFolderError",
    "OptionError",
    "PocketGPTError",
    "ProofError",
    "ProviderError",
    "QuantizationError",
    "Score",
    "Stream",
    "Timings",
    "VariantNotFoundError",
    "__version__",
    "load",
]
