"""Greedy and beam search token for token: the bundled checkpoint, and random GPT-2 shapes."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch
from transformers import GPT2TokenizerFast

import pocketgpt

from .conftest import TUTORIAL

if TYPE_CHECKING:
    from transformers import GPT2LMHeadModel

PROMPTS = ["The quick brown fox jumps over the", "Once upon a time", "King"]
SEARCHES: list[dict[str, Any]] = [
    {"num_beams": beams, "length_penalty": penalty, "early_stopping": early}
    for (beams, early), penalty in zip(
        itertools.product((2, 4, 5), (True, False, "never")),
        itertools.cycle((0.5, 2.0, -1.0, 0.0)),
        strict=False,
    )
]
SHAPES: dict[str, dict[str, Any]] = {
    "three_layers": {"n_layer": 3, "n_head": 3, "n_embd": 48, "n_positions": 40},
    "untied": {"n_layer": 1, "n_head": 4, "n_embd": 32, "tie_word_embeddings": False},
    "scaled": {
        "n_embd": 64,
        "scale_attn_by_inverse_layer_idx": True,
        "activation_function": "gelu",
        "n_inner": 96,
    },
}


@pytest.fixture(scope="module")
def bundled(bundled_folder: Path) -> pocketgpt.Model:
    return pocketgpt.load(bundled_folder, "fp32")


def assert_equal(
    model: pocketgpt.Model, reference: GPT2LMHeadModel, prompt: str, **options: Any
) -> None:
    """Our new tokens are transformers', text by text; what it pads an ended one with aside."""
    ids = torch.tensor([model.tokenizer.encode(prompt)])
    expected: Any = reference.generate(
        ids, attention_mask=torch.ones_like(ids), pad_token_id=0, **options
    )
    made: Any = model.generate(prompt, **options)
    results = made if isinstance(made, list) else [made]
    assert len(results) == len(expected)
    for result, row in zip(results, expected[:, ids.shape[1] :].tolist(), strict=True):
        ended = result.finish_reason == "eos"
        assert result.token_ids == (row[: len(result.token_ids)] if ended else row)
        assert not ended or len(set(row[len(result.token_ids) :])) <= 1


@pytest.mark.filterwarnings("ignore::UserWarning")  # transformers': top_p without do_sample
def test_the_tutorials_call(bundled: pocketgpt.Model, bundled_reference: GPT2LMHeadModel) -> None:
    assert_equal(bundled, bundled_reference, PROMPTS[0], **TUTORIAL)


@pytest.mark.parametrize("search", SEARCHES, ids=str)
def test_searches_on_the_bundled_checkpoint(
    bundled: pocketgpt.Model, bundled_reference: GPT2LMHeadModel, search: dict[str, Any]
) -> None:
    """A full stop or a comma ends a text."""
    ends = [bundled.tokenizer.encode(mark)[0] for mark in ".,"]
    prompt = PROMPTS[SEARCHES.index(search) % len(PROMPTS)]
    options = {"max_new_tokens": 14, "num_return_sequences": min(search["num_beams"], 3)}
    assert_equal(bundled, bundled_reference, prompt, eos_token_id=ends, **options, **search)


@pytest.mark.parametrize(
    "shape",
    ["three_layers", *(pytest.param(s, marks=pytest.mark.slow) for s in ("untied", "scaled"))],
)
def test_random_shapes(
    make_gpt2: Callable[..., GPT2LMHeadModel],
    tiny_checkpoint: Path,
    tmp_path: Path,
    shape: str,
) -> None:
    from pocketgpt_export import export

    tokenizer = GPT2TokenizerFast.from_pretrained(tiny_checkpoint)
    reference = make_gpt2(vocab_size=len(tokenizer), **SHAPES[shape])
    reference.save_pretrained(tmp_path / "checkpoint")
    tokenizer.save_pretrained(tmp_path / "checkpoint")
    export(tmp_path / "checkpoint", tmp_path / "folder")
    model = pocketgpt.load(tmp_path / "folder", "fp32")
    for prompt in PROMPTS:
        assert_equal(model, reference, prompt, max_length=40)
    for number, search in enumerate(SEARCHES):
        prompt = PROMPTS[number % len(PROMPTS)]
        assert_equal(model, reference, prompt, max_length=38, num_return_sequences=2, **search)


def test_scores_of_the_bundled_checkpoint_equal_pytorchs(
    bundled: pocketgpt.Model, bundled_reference: GPT2LMHeadModel, bundled_folder: Path
) -> None:
    """Perplexity over the sliding window of transformers' page on it, half a context a stride."""
    text = (bundled_folder / "evaluation.txt").read_text("utf-8")[:8000]
    ids = torch.tensor(bundled.tokenizer.encode(text))
    context, stride = bundled.config.n_positions, bundled.config.n_positions // 2
    total, scored, end = 0.0, 0, 1
    for begin in range(0, len(ids), stride):
        window = ids[begin : begin + context]
        fresh, end = begin + len(window) - end, begin + len(window)
        with torch.inference_mode():
            log_probs = bundled_reference(window[None, :-1]).logits[0].log_softmax(-1)
        chosen = log_probs.gather(1, window[1:, None])[-fresh:]
        total, scored = total + float(chosen.double().sum()), scored + fresh
        if end == len(ids):
            break
    found = bundled.score(text)
    assert len(found.log_probs) == scored == len(ids) - 1
    assert found.perplexity == pytest.approx(float(torch.tensor(-total / scored).exp()), rel=1e-4)
