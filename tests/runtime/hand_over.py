"""Makes, where there is PyTorch, what the runtime's tests take where there is none.

Run by name only: `POCKETGPT_HAND_OVER=FOLDER pytest tests/runtime/hand_over.py` fills FOLDER, and
`POCKETGPT_HANDED=FOLDER pytest tests/runtime` tests with it: on another processor, in another
Python, with another ONNX Runtime. `test_handed.py` compares what is said there with what was here.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from .answers import VARIANTS, caches, write_answers

FIXTURES = {
    "tiny-checkpoint": "tiny_checkpoint",
    "tiny": "tiny_folder",
    "random-checkpoint": "random_checkpoint",
    "random": "random_folder",
    "classifier-checkpoint": "classifier_checkpoint",
    "classifier": "classifier_folder",
    "draft": "draft_folder",
    "pocket-tales": "bundled_folder",
}


@pytest.fixture(scope="session")
def target() -> Path:
    """The folder to fill."""
    return Path(os.environ["POCKETGPT_HAND_OVER"])


@pytest.mark.parametrize("name", FIXTURES)
def test_hand_over_a_folder(name: str, target: Path, request: pytest.FixtureRequest) -> None:
    shutil.rmtree(target / name, ignore_errors=True)
    shutil.copytree(request.getfixturevalue(FIXTURES[name]), target / name)


def test_hand_over_what_the_bundled_checkpoint_says(target: Path) -> None:
    from pocketgpt_quantize import quantize

    folder = target / "pocket-tales"
    quantize(folder, [variant for variant in VARIANTS if variant != "fp32"])
    for variant in VARIANTS:
        for kv_cache in caches():
            write_answers(folder, variant, kv_cache)
