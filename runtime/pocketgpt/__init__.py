"""PocketGPT's runtime: GPT-2 models from numpy, onnxruntime and tokenizers alone."""

from . import _telemetry  # noqa: F401  # first: it has to come before onnxruntime
from ._version import __version__
from .engine.assignment import Assignment
from .engine.decoder import Decoder
from .engine.verdicts import SelfTest
from .errors import (
    AdapterError,
    CheckpointError,
    InferenceError,
    MissingExtraError,
    ModelFolderError,
    OptionError,
    PocketGPTError,
    ProofError,
    ProviderError,
    ProviderWarning,
    QuantizationError,
    SessionError,
    VariantNotFoundError,
)
from .folder.packaging import Package, package
from .folder.push import push
from .generation.options import GenerationOptions
from .generation.results import Counters, GenerationResult, Timings, TokenLogprobs
from .generation.stream import BatchStream, Stream
from .measure.bench import Benchmark, VariantSpeed, bench
from .measure.devices import Devices, ProviderState, devices
from .measure.evaluation import Evaluation
from .measure.profile import OperatorTime, Phase, Profile, profile
from .measure.score import Score
from .measure.score_file import FileScore
from .measure.selftest import selftest
from .model import Model, load
from .sessions.session import Session
from .tasks.choose import Choice, Choices
from .tasks.classify import Classification

__all__ = [
    "AdapterError",
    "Assignment",
    "BatchStream",
    "Benchmark",
    "CheckpointError",
    "Choice",
    "Choices",
    "Classification",
    "Counters",
    "Decoder",
    "Devices",
    "Evaluation",
    "FileScore",
    "GenerationOptions",
    "GenerationResult",
    "InferenceError",
    "MissingExtraError",
    "Model",
    "ModelFolderError",
    "OperatorTime",
    "OptionError",
    "Package",
    "Phase",
    "PocketGPTError",
    "Profile",
    "ProofError",
    "ProviderError",
    "ProviderState",
    "ProviderWarning",
    "QuantizationError",
    "Score",
    "SelfTest",
    "Session",
    "SessionError",
    "Stream",
    "Timings",
    "TokenLogprobs",
    "VariantNotFoundError",
    "VariantSpeed",
    "__version__",
    "bench",
    "devices",
    "load",
    "package",
    "profile",
    "push",
    "selftest",
]
