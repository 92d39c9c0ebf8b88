"""PocketGPT's runtime: GPT-2 models from numpy, onnxruntime and tokenizers alone."""

from ._version import __version__
from .benchmark import Benchmark, VariantSpeed, bench
from .errors import (
    CheckpointError,
    MissingExtraError,
    ModelFolderError,
    OptionError,
    PocketGPTError,
    ProofError,
    ProviderError,
    QuantizationError,
    SessionError,
    VariantNotFoundError,
)
from .evaluation import Evaluation
from .model import Model, load
from .options import GenerationOptions
from .profiling import OperatorTime, Phase, Profile, profile
from .results import GenerationResult, Timings, TokenLogprobs
from .score import Score
from .score_file import FileScore
from .streaming import BatchStream, Stream
from .text_session import Session

__all__ = [
    "BatchStream",
    "Benchmark",
    "CheckpointError",
    "Evaluation",
    "FileScore",
    "GenerationOptions",
    "GenerationResult",
    "MissingExtraError",
    "Model",
    "ModelFolderError",
    "OperatorTime",
    "OptionError",
    "Phase",
    "PocketGPTError",
    "Profile",
    "ProofError",
    "ProviderError",
    "QuantizationError",
    "Score",
    "Session",
    "SessionError",
    "Stream",
    "Timings",
    "TokenLogprobs",
    "VariantNotFoundError",
    "VariantSpeed",
    "__version__",
    "bench",
    "load",
    "profile",
]
