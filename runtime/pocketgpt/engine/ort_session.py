"""Opening an ONNX Runtime session: the one place where its options and errors are dealt with."""

from __future__ import annotations

from pathlib import Path

import onnxruntime as ort

from .. import validate
from ..errors import ModelFolderError, ProviderError
from .providers import CPU, Provider, check_active, resolve_provider
from .threads import physical_cores

MOST_THREADS = 4096  # ONNX Runtime makes as many as it is told, and dies of too many
_ERRORS_ONLY = 3


def open_session(
    path: Path,
    *,
    provider: Provider = "auto",
    threads: int | None = None,
    profile: Path | None = None,
    sparing: bool = False,
) -> ort.InferenceSession:
    """Open a graph.

    Args:
        path: the .onnx file.
        provider: what `resolve_provider` takes.
        threads: threads within an operator; None for this process's physical cores.
        profile: where to write ONNX Runtime's profile, as the beginning of a file's name.
        sparing: whether to take less memory rather than less time: float32 weights are read where
            they lie in their file, with no second copy laid out for the kernels.

    Raises:
        OptionError: `threads` is no whole number from 1 to 4096, or the provider cannot be read.
        ProviderError: the provider is not in this ONNX Runtime, or did not become active.
        ModelFolderError: ONNX Runtime cannot load the graph.
    """
    validate.whole("threads", threads, at_least=1, optional=True)
    validate.number("threads", threads, at_most=MOST_THREADS, optional=True)
    name, provider_options = resolve_provider(provider)
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads or physical_cores()
    # Asking for more than one row of logits overrides their declared shape: that is no warning.
    options.log_severity_level = _ERRORS_ONLY
    if profile is not None:
        options.enable_profiling = True
        options.profile_file_prefix = str(profile)
    if sparing:
        options.add_session_config_entry("session.disable_prepacking", "1")
        options.enable_cpu_mem_arena = False
    try:
        # Without fallback: a provider that fails is an error, never a slow run on another.
        session = ort.InferenceSession(
            path, options, providers=[(name, provider_options)], enable_fallback=0
        )
    except Exception as error:  # ONNX Runtime's exceptions share no base of their own
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        if name != CPU:
            raise ProviderError(f"provider {name!r} cannot run {path}: {reason}") from error
        raise ModelFolderError(f"ONNX Runtime cannot load {path}: {reason}") from error
    check_active(name, session)
    return session
