"""Opening and running ONNX Runtime sessions: the one place where its options and errors are met."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import onnxruntime as ort
from numpy.typing import NDArray

from .. import validate
from ..errors import InferenceError, ModelFolderError, ProviderError
from .assignment import NO_CPU, RECORD, read_assignment
from .native_log import said_while
from .ort_errors import reason
from .providers import Found, Provider, check_active, find_provider
from .threads import physical_cores

MOST_THREADS = 4096  # ONNX Runtime makes as many as it is told, and dies of too many
_ERRORS_ONLY = 3
_WEIGHTS_FOLDER = "session.model_external_initializers_file_folder_path"


def open_session(
    graph: Path | bytes,
    *,
    provider: Provider = "auto",
    threads: int | None = None,
    profile: Path | None = None,
    sparing: bool = False,
    weights_folder: Path | None = None,
    name: Path | None = None,
    strict: bool = False,
) -> ort.InferenceSession:
    """Open a graph.

    Args:
        graph: the .onnx file, or what would be in it.
        provider: what `find_provider` takes.
        threads: threads within an operator; None for this process's physical cores.
        profile: where to write ONNX Runtime's profile, as the beginning of a file's name.
        sparing: whether to take less memory rather than less time: float32 weights are read where
            they lie in their file, with no second copy laid out for the kernels.
        weights_folder: where the weights' file lies, for a graph that comes as bytes.
        name: what to call a graph that comes as bytes.
        strict: whether a node that the provider leaves to the CPU is an error.

    Raises:
        OptionError: `threads` is no whole number from 1 to 4096, or the provider cannot be read.
        ProviderError: the provider is not in this ONNX Runtime, did not become active, or leaves
            nodes to the CPU where it is not to.
        ModelFolderError: ONNX Runtime cannot load the graph.
    """
    if threads is not None:
        validate.whole("threads", threads, at_least=1)
        validate.number("threads", threads, at_most=MOST_THREADS)
    found = find_provider(provider)
    where = graph if isinstance(graph, Path) else name or "a graph in memory"

    def open_once(alone: bool = False) -> ort.InferenceSession:
        options = _options(found, threads, profile, sparing, weights_folder)
        if alone:
            options.add_session_config_entry(NO_CPU, "1")
        return _open(graph, options, found, where)

    if found.is_cpu:
        return open_once()
    try:
        session = open_once(alone=strict)
        fell = None
    except ProviderError:
        if not strict:
            raise
        session = open_once()  # what fails for another reason says so now
        fell = read_assignment(session)
    inactive = found.name not in session.get_providers()
    check_active(found, session, said_while(open_once) if inactive else None)
    if fell is not None:
        raise ProviderError(
            f"provider {found.name!r} cannot run all of {where}: {fell}; strict=False, without "
            "--strict, lets them"
        )
    return session


def _options(
    found: Found,
    threads: int | None,
    profile: Path | None,
    sparing: bool,
    weights_folder: Path | None,
) -> ort.SessionOptions:
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads or physical_cores()
    # Asking for more than one row of logits overrides their declared shape: that is no warning.
    options.log_severity_level = _ERRORS_ONLY
    if profile is not None:
        options.enable_profiling = True
        options.profile_file_prefix = str(profile)
    if weights_folder is not None:
        options.add_session_config_entry(_WEIGHTS_FOLDER, str(weights_folder))
    if sparing:
        options.add_session_config_entry("session.disable_prepacking", "1")
        options.enable_cpu_mem_arena = False
        # As nodes are listed: the default runs what is asked for late, and keeps all until then.
        options.execution_order = ort.ExecutionOrder.PRIORITY_BASED
    if not found.is_cpu:
        options.add_session_config_entry(RECORD, "1")
    if found.devices:
        options.add_provider_for_devices(list(found.devices), dict(found.options))
    return options


def _open(
    graph: Path | bytes, options: ort.SessionOptions, found: Found, where: object
) -> ort.InferenceSession:
    # A plugin's devices are among the options. Without fallback: a provider that fails is an error,
    # never a slow run on another.
    providers = None if found.devices else [(found.name, dict(found.options))]
    try:
        return ort.InferenceSession(graph, options, providers=providers, enable_fallback=0)
    except Exception as error:  # ONNX Runtime's exceptions share no base of their own
        if not found.is_cpu:
            raise ProviderError(
                f"provider {found.name!r} cannot run {where}: {reason(error)}"
            ) from error
        raise ModelFolderError(f"ONNX Runtime cannot load {where}: {reason(error)}") from error


def run_bound(
    session: ort.InferenceSession, binding: ort.IOBinding, options: ort.RunOptions | None = None
) -> None:
    """Run a graph over what is bound.

    Raises:
        InferenceError: ONNX Runtime could not: the weights or the inputs do not fit the graph, or
            memory or a device gave out.
    """
    try:
        session.run_with_iobinding(binding, options)
    except Exception as error:  # ONNX Runtime's exceptions share no base of their own
        raise _not_run(error) from error


def run_feeds(
    session: ort.InferenceSession, outputs: Sequence[str], feeds: Mapping[str, NDArray[Any]]
) -> list[NDArray[Any]]:
    """Run a graph over arrays and return arrays.

    Raises:
        InferenceError: ONNX Runtime could not.
    """
    try:
        results: list[NDArray[Any]] = session.run(list(outputs), dict(feeds))
    except Exception as error:  # ONNX Runtime's exceptions share no base of their own
        raise _not_run(error) from error
    return results


def _not_run(error: Exception) -> InferenceError:
    return InferenceError(f"ONNX Runtime cannot run the graph: {reason(error)}")
