"""Opening an ONNX Runtime session: the one place where its options and errors are dealt with."""

from __future__ import annotations

from pathlib import Path

import onnxruntime as ort

from . import checks
from .errors import ModelFolderError, ProviderError
from .threads import physical_cores

PROVIDERS = {"auto": "CPUExecutionProvider", "cpu": "CPUExecutionProvider"}
_ERRORS_ONLY = 3


def open_session(
    path: Path, *, provider: str = "auto", threads: int | None = None
) -> ort.InferenceSession:
    """Open a graph.

    Args:
        path: the .onnx file.
        provider: `auto`, `cpu`, or one of ONNX Runtime's own provider names.
        threads: threads within an operator; None for this process's physical cores.

    Raises:
        OptionError: `threads` is no whole number above 0.
        ProviderError: the provider is not in this ONNX Runtime, or did not become active.
        ModelFolderError: ONNX Runtime cannot load the graph.
    """
    checks.whole("threads", threads, at_least=1, optional=True)
    name = PROVIDERS.get(provider, provider)
    available = ort.get_available_providers()
    if name not in available:
        raise ProviderError(
            f"provider {provider!r} is not in this ONNX Runtime, which has "
            f"{', '.join(available)}; choose one of them or install the build that has it"
        )
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads or physical_cores()
    # Asking for more than one row of logits overrides their declared shape: that is no warning.
    options.log_severity_level = _ERRORS_ONLY
    try:
        session = ort.InferenceSession(path, options, providers=[name])
    except Exception as error:  # ONNX Runtime's exceptions share no base of their own
        reason = str(error).splitlines()[0]
        raise ModelFolderError(f"ONNX Runtime cannot load {path}: {reason}") from error
    if name not in session.get_providers():
        raise ProviderError(
            f"provider {provider!r} was asked for and did not become active; "
            f"active are {', '.join(session.get_providers())}"
        )
    return session
