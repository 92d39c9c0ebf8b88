"""Opening and running ONNX Runtime sessions: the one place where its options and errors are met."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import onnxruntime as ort
from numpy.typing import NDArray

from .. import validate
from ..errors import InferenceError, ModelFolderError, ProviderError
from .providers import CPU, Provider, check_active, resolve_provider
from .threads import physical_cores

MOST_THREADS = 4096  # ONNX Runtime makes as many as it is told, and dies of too many
_ERRORS_ONLY = 3
_FLASH_OFF = "ORT_GQA_DISABLE_FLASH_ATTENTION"
_WEIGHTS_FOLDER = "session.model_external_initializers_file_folder_path"
_REASON_CHARACTERS = 400


def open_session(
    graph: Path | bytes,
    *,
    provider: Provider = "auto",
    threads: int | None = None,
    profile: Path | None = None,
    sparing: bool = False,
    weights_folder: Path | None = None,
    name: Path | None = None,
) -> ort.InferenceSession:
    """Open a graph.

    Args:
        graph: the .onnx file, or what would be in it.
        provider: what `resolve_provider` takes.
        threads: threads within an operator; None for this process's physical cores.
        profile: where to write ONNX Runtime's profile, as the beginning of a file's name.
        sparing: whether to take less memory rather than less time: float32 weights are read where
            they lie in their file, with no second copy laid out for the kernels.
        weights_folder: where the weights' file lies, for a graph that comes as bytes.
        name: what to call a graph that comes as bytes.

    Raises:
        OptionError: `threads` is no whole number from 1 to 4096, or the provider cannot be read.
        ProviderError: the provider is not in this ONNX Runtime, or did not become active.
        ModelFolderError: ONNX Runtime cannot load the graph.
    """
    if threads is not None:
        validate.whole("threads", threads, at_least=1)
        validate.number("threads", threads, at_most=MOST_THREADS)
    provider_name, provider_options = resolve_provider(provider)
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
    try:
        # Without fallback: a provider that fails is an error, never a slow run on another.
        with _whole_attention():
            session = ort.InferenceSession(
                graph, options, providers=[(provider_name, provider_options)], enable_fallback=0
            )
    except Exception as error:  # ONNX Runtime's exceptions share no base of their own
        where = graph if isinstance(graph, Path) else name or "a graph in memory"
        if provider_name != CPU:
            raise ProviderError(
                f"provider {provider_name!r} cannot run {where}: {reason(error)}"
            ) from error
        raise ModelFolderError(f"ONNX Runtime cannot load {where}: {reason(error)}") from error
    check_active(provider_name, session)
    return session


@contextmanager
def _whole_attention() -> Iterator[None]:
    """Let a session's attention kernels compute whole products, unless the variable says otherwise.

    On the CPU the tiled way (flash) saves memory that contexts as short as GPT-2's do not take, and
    a chunk of 256 tokens takes longer by it. Kernels read the variable when they are
    made; other sessions of the process are not to know.
    """
    if _FLASH_OFF in os.environ:
        yield
        return
    os.environ[_FLASH_OFF] = "1"
    try:
        yield
    finally:
        os.environ.pop(_FLASH_OFF, None)


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


def reason(error: Exception) -> str:
    """Return an error's first line, at a bearable length; its kind where it says nothing."""
    lines = str(error).splitlines()
    return lines[0][:_REASON_CHARACTERS] if lines and lines[0] else type(error).__name__
