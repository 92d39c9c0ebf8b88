"""A folder in other people's runtimes: what `make test-interop` made, and what PocketGPT says.

All here is marked `interop`, needs no network, and runs in an environment of its own.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import pytest

import pocketgpt
from pocketgpt import GenerationResult, Model, ProviderWarning
from pocketgpt.folder.manifest import read_manifest

from ..conftest import ROOT
from .node import Node

FOLDERS = ROOT / "build" / "interop"
FUSED, PORTABLE = FOLDERS / "fused", FOLDERS / "portable"
VARIANTS = ("fp32", "int8", "q8", "q4", "q4f16")
PROMPTS = (
    "Once upon a time",
    "The wolf",
    "It was a dark night, and the old man",
    "“Come here,” said the",
    "In the garden there grew a tree which",
)
NEW_TOKENS = 60

Agree = Callable[[str, str, list[int]], bool]

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        if item.path.is_relative_to(here):
            item.add_marker("interop")
            item.add_marker(pytest.mark.filterwarnings("ignore"))  # theirs


@pytest.fixture(scope="session")
def fused() -> Path:
    return there(FUSED)


@pytest.fixture(scope="session")
def portable() -> Path:
    return there(PORTABLE)


def there(folder: Path) -> Path:
    if not (folder / "pocketgpt.json").is_file():
        pytest.fail(f"no {folder}: make test-interop makes it")
    return folder


@cache
def ours(folder: Path, variant: str) -> Model:
    """Load a variant, its cache in the variant's own type, as other runtimes have it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ProviderWarning)
        return pocketgpt.load(folder, variant, kv_cache="float")


@cache
def greedy(folder: Path, variant: str, prompt: str) -> GenerationResult:
    model = ours(folder, variant)
    return model.generate(prompt, max_new_tokens=NEW_TOKENS, do_sample=False, logprobs=5)


def prompt_ids(prompt: str) -> list[int]:
    return ours(FUSED, "fp32").tokenizer.encode(prompt)


@pytest.fixture(scope="session")
def agree() -> Agree:
    """Return what compares another runtime's new tokens with ours, and tells if all are equal.

    fp32's have to be. A quantized variant's may differ where the tolerance that its manifest
    states covers the margin: from there on the texts are two.
    """

    def compare(variant: str, prompt: str, found: list[int]) -> bool:
        result = greedy(FUSED, variant, prompt)
        expected = list(result.token_ids)
        if found == expected:
            return True
        tolerance = read_manifest(FUSED).variants[variant].tolerance
        assert tolerance is not None, f"{variant}: {found} != {expected}"
        place = next(n for n, (a, b) in enumerate(zip(found, expected, strict=False)) if a != b)
        assert result.logprobs is not None
        likeliest = dict(result.logprobs[place].top)
        assert found[place] in likeliest, f"{variant}: a token of no consequence at {place}"
        margin = likeliest[expected[place]] - likeliest[found[place]]
        assert margin <= tolerance, f"{variant}: {margin} at {place}, {tolerance} is allowed"
        return False

    return compare


@pytest.fixture(scope="session")
def node() -> Iterator[Node]:
    with Node(FOLDERS) as process:
        yield process
