"""What pages are run in: a folder like a clone of the repository, with what a page begins with."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from ..conftest import ROOT

QUANTIZED = ROOT / "build" / "pocket-tales"  # what `make test-docs` makes: int8, q8, q4
# What a clone has, and a page's commands may name; models/ is made anew.
CLONED = (
    "LICENSE",
    "README.md",
    "benchmarks",
    "constraints.txt",
    "examples",
    "exporter",
    "pyproject.toml",
    "quantize",
    "runtime",
)

Prepare = Callable[[str], None]


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A folder like a fresh clone, the bundled checkpoint included."""
    folder = tmp_path / "clone"
    (folder / "models").mkdir(parents=True)
    for name in CLONED:
        (folder / name).symlink_to(ROOT / name)
    for name in ("pocket-tales", "recipe"):
        (folder / "models" / name).symlink_to(ROOT / "models" / name)
    return folder


@pytest.fixture
def prepare(clone: Path, request: pytest.FixtureRequest) -> Prepare:
    """Make what a page begins with, by its name."""

    def tales(target: Path) -> None:
        if not (QUANTIZED / "onnx" / "model_q4.onnx").exists():
            pytest.fail(f"{QUANTIZED} is not there: `make test-docs` makes it")
        shutil.copytree(QUANTIZED, target)

    def classifier(target: Path) -> None:
        shutil.copytree(request.getfixturevalue("classifier_checkpoint"), target)

    def texts(target: Path) -> None:
        checkpoint: Path = request.getfixturevalue("classifier_checkpoint")
        shutil.copy(checkpoint / "evaluation.txt", target)

    makers = {
        "models/tales": tales,
        "my-classifier": classifier,
        "texts.txt": texts,
        "adapters/tales": make_adapter,
        "adapters/news": make_adapter,
    }

    def made(name: str) -> None:
        (clone / name).parent.mkdir(parents=True, exist_ok=True)
        makers[name](clone / name)

    return made


def make_adapter(target: Path) -> None:
    """Write a LoRA adapter of random numbers for the bundled checkpoint, as PEFT does."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import GPT2LMHeadModel

    torch.manual_seed(0)
    checkpoint = ROOT / "models" / "pocket-tales"
    shape = LoraConfig(target_modules=["c_attn"], fan_in_fan_out=True, task_type="CAUSAL_LM")
    model = get_peft_model(GPT2LMHeadModel.from_pretrained(checkpoint), shape)
    for name, parameter in model.named_parameters():
        if ".lora_B." in name:  # which starts at 0
            parameter.data = 0.02 * torch.randn_like(parameter)
    model.save_pretrained(str(target))
