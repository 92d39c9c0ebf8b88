"""Whether a provider is believed: the self-test, run once and remembered, and what it refuses."""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import onnxruntime as ort

from ..errors import ModelFolderError, ProviderError, ProviderWarning
from ..folder.fingerprint import Fingerprint
from ..folder.opening import OpenFolder
from .assignment import Assignment
from .decoder import Decoder
from .providers import Found
from .selftest import VERSION, Progress, allowed, differences
from .verdicts import SelfTest, device_of, key_of, recall, remember


def check_provider(
    opened: OpenFolder,
    found: Found,
    new_decoder: Callable[[int], Decoder],
    assignment: Assignment | None,
    progress: Progress | None = None,
) -> None:
    """Test an open variant on its provider, unless that is the CPU or was found right already.

    Raises:
        ProviderError: its answers are wrong.
    """
    if found.is_cpu:
        return
    fingerprint = opened.record.fingerprint
    if fingerprint is None:
        warnings.warn(ProviderWarning(no_fingerprint(opened.folder, opened.variant)), stacklevel=6)
        return
    verdict = recall(_key(opened, found, fingerprint))
    if verdict is None:
        verdict = run_selftest(opened, found, new_decoder, assignment, progress, to_the_end=False)
    if verdict.failed:
        raise ProviderError(verdict.line)


def run_selftest(
    opened: OpenFolder,
    found: Found,
    new_decoder: Callable[[int], Decoder],
    assignment: Assignment | None,
    progress: Progress | None = None,
    *,
    to_the_end: bool = True,
) -> SelfTest:
    """Test an open variant on its provider, whatever is remembered, and remember what was found.

    Args:
        opened: the folder and the variant.
        found: the provider.
        new_decoder: gives a decoder of so many texts.
        assignment: where the graph's nodes are.
        progress: called with (what is done now, checks done, checks in all).
        to_the_end: whether to run all checks, even if one has failed.

    Raises:
        ModelFolderError: there is no fingerprint to test by.
        InferenceError: ONNX Runtime could not run the graph.
    """
    fingerprint = opened.record.fingerprint
    if fingerprint is None:
        raise ModelFolderError(no_fingerprint(opened.folder, opened.variant))
    limit = allowed(fingerprint, opened.record.tolerance)
    begin = time.perf_counter()
    enough = math.inf if to_the_end else limit
    off = differences(new_decoder, fingerprint, progress, enough=enough)
    verdict = SelfTest(
        variant=opened.variant,
        graph=opened.graph_sha256,
        provider=found.name,
        options=dict(found.options),
        device=device_of(found),
        onnxruntime=ort.__version__,
        differences=off,
        allowed=limit,
        nodes=dict(assignment.nodes) if assignment else {},
        cpu_nodes=assignment.cpu_nodes if assignment else (),
        seconds=time.perf_counter() - begin,
        time=time.time(),
    )
    remember(_key(opened, found, fingerprint), verdict)
    return verdict


def no_fingerprint(folder: Path, variant: str) -> str:
    """Say that a variant cannot be tested, and what to do."""
    return (
        f"{folder} has no fingerprint of {variant}, so that its answers cannot be tested on this "
        "provider: export the model again, and make its variants again"
    )


def _key(opened: OpenFolder, found: Found, fingerprint: Fingerprint) -> str:
    return key_of(found, opened.graph_sha256, fingerprint.sha256, VERSION)
