"""The bundled checkpoint through the command line, token by token against transformers."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pocketgpt.text.tokenizer import Tokenizer

from ..conftest import Cli

if TYPE_CHECKING:
    from transformers import GPT2LMHeadModel

NEW_TOKENS = 100
# The lengths in characters of 20 prompts cut from the evaluation text.
LENGTHS = [
    1,
    3,
    7,
    12,
    20,
    33,
    50,
    75,
    100,
    140,
    190,
    250,
    320,
    400,
    500,
    620,
    760,
    900,
    1050,
    1200,
]


@pytest.mark.parametrize("number", range(len(LENGTHS)))
def test_greedy_tokens_equal_transformers(
    bundled_folder: Path,
    bundled_reference: GPT2LMHeadModel,
    reference_greedy: Callable[..., list[int]],
    cli: Cli,
    number: int,
) -> None:
    text = (bundled_folder / "evaluation.txt").read_text("utf-8")
    start = number * (len(text) - max(LENGTHS)) // len(LENGTHS)
    prompt = text[start : start + LENGTHS[number]]
    flags = ["--variant", "fp32", "--max-new-tokens", str(NEW_TOKENS), "--json"]
    done = cli("generate", bundled_folder, "-", *flags, stdin=prompt.encode())
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    tokenizer = Tokenizer(bundled_folder / "tokenizer.json")
    ids = tokenizer.encode(prompt)
    assert len(ids) + NEW_TOKENS <= bundled_reference.config.n_positions
    assert found["token_ids"] == reference_greedy(bundled_reference, ids, max_new_tokens=NEW_TOKENS)
    assert found["timings"]["prompt_tokens"] == len(ids)


def test_it_is_what_it_is_said_to_be(
    bundled_checkpoint: Path, bundled_reference: GPT2LMHeadModel
) -> None:
    config = bundled_reference.config
    assert 7e6 <= sum(tensor.numel() for tensor in bundled_reference.parameters()) <= 15e6
    assert config.n_embd // config.n_head == 64
    assert config.n_positions >= 512
    assert 7_000 <= config.vocab_size <= 9_000
    assert (bundled_checkpoint / "model.safetensors").stat().st_size <= 30_000_000
    settings = json.loads((bundled_checkpoint / "generation_config.json").read_text("utf-8"))
    noted = {"_from_model_config", "transformers_version"}
    assert all(name.endswith("token_id") for name in set(settings) - noted)


def test_its_texts_differ(bundled_checkpoint: Path) -> None:
    evaluation, calibration = (
        (bundled_checkpoint / name).read_text("utf-8")
        for name in ("evaluation.txt", "calibration.txt")
    )
    assert len(evaluation) > 10_000
    assert len(calibration) > 10_000
    assert evaluation[:500] not in calibration
    assert calibration[:500] not in evaluation
