"""PocketGPT's runtime: GPT-2 models from numpy, onnxruntime and tokenizers alone."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

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
from .generation.options import GenerationOptions
from .generation.results import Counters, GenerationResult, Timings, TokenLogprobs
from .generation.stream import BatchStream, Stream
from .measure.evaluation import Evaluation
from .measure.score import Score
from .measure.score_file import FileScore
from .model import Model, load
from .sessions.session import Session
from .tasks.choose import Choice, Choices
from .tasks.classify import Classification

if TYPE_CHECKING:
    from .folder.packaging import Package, package
    from .folder.push import push
    from .measure.bench import Benchmark, VariantSpeed, bench
    from .measure.devices import Devices, ProviderState, devices
    from .measure.profile import OperatorTime, Phase, Profile, profile
    from .measure.selftest import selftest

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

# What an app that generates goes without, imported once it is asked for.
_LATER = {
    **dict.fromkeys(("Package", "package"), "folder.packaging"),
    **dict.fromkeys(("Benchmark", "VariantSpeed", "bench"), "measure.bench"),
    **dict.fromkeys(("Devices", "ProviderState", "devices"), "measure.devices"),
    **dict.fromkeys(("OperatorTime", "Phase", "Profile", "profile"), "measure.profile"),
    "push": "folder.push",
    "selftest": "measure.selftest",
}


def __getattr__(name: str) -> Any:
    if name not in _LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found = getattr(import_module(f".{_LATER[name]}", __name__), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return __all__
