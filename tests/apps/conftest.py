"""What the tests of the apps share: which apps this run is for, their folder, and Python's answers.

`make test-browser` and `make test-node` set POCKETGPT_APPS; elsewhere these tests are left out.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import pytest

import pocketgpt

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "build" / "pocket-tales"
PROMPTS = (
    "Once upon a time",
    "The wolf",
    "It was a dark night, and",
    "“Who is there?” cried the old woman",
)
Greedy = Callable[..., pocketgpt.GenerationResult]


def pytest_ignore_collect(collection_path: Path) -> bool | None:
    """Leave out the tests of other apps: what they import may not be installed."""
    name = collection_path.name
    if not (name.startswith("test_") and collection_path.parent.name == "apps"):
        return None
    wanted = os.environ.get("POCKETGPT_APPS", "").split()
    return None if name.removeprefix("test_").removesuffix(".py") in wanted else True


@pytest.fixture(scope="session")
def greedy() -> Greedy:
    """`(variant, prompt, tokens)` -> Python's greedy text; other runtimes' cache is in floats."""
    models: dict[tuple[str, str], pocketgpt.Model] = {}

    def greedy(
        variant: str, prompt: str, tokens: int, kv_cache: Literal["auto", "float"] = "float"
    ) -> pocketgpt.GenerationResult:
        if (variant, kv_cache) not in models:
            models[variant, kv_cache] = pocketgpt.load(FOLDER, variant, kv_cache=kv_cache)
        return models[variant, kv_cache].generate(prompt, max_new_tokens=tokens)

    return greedy
