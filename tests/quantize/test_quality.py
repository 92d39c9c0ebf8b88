"""Quality figures: fp32's against PyTorch's, the others by hand."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

import pocketgpt
from pocketgpt import Model, QuantizationError
from pocketgpt.engine.graph import Graph
from pocketgpt.folder.config import ModelConfig
from pocketgpt.text.tokenizer import Tokenizer
from pocketgpt_quantize.measure.quality import Passage, Reference, measure

from .conftest import FIGURES

if TYPE_CHECKING:
    from transformers import GPT2LMHeadModel


@pytest.fixture(scope="module")
def recorded(tiny_folder: Path) -> dict[str, dict[str, float]]:
    """The figures in the manifest, by variant."""
    manifest: dict[str, Any] = json.loads((tiny_folder / "pocketgpt.json").read_text("utf-8"))
    return {name: variant["quality"] for name, variant in manifest["variants"].items()}


def negative_log_likelihoods(model: GPT2LMHeadModel, ids: list[int], stride: int) -> list[float]:
    """PyTorch's, by the loop of transformers' page on perplexity, over the whole context."""
    length, found, previous_end = model.config.n_positions, [], 0
    for begin in range(0, len(ids), stride):
        end = min(begin + length, len(ids))
        window = torch.tensor([ids[begin:end]])
        with torch.inference_mode():
            log_probs = model(window).logits[0, :-1].log_softmax(-1)
        each = (-log_probs.gather(1, window[0, 1:, None])[:, 0]).tolist()
        found += each[begin and len(each) - (end - previous_end) :]
        previous_end = end
        if end == len(ids):
            break
    assert len(found) == len(ids) - 1
    return found


def test_every_variant_has_every_figure(recorded: dict[str, dict[str, float]]) -> None:
    assert list(recorded) == ["fp32", "int8", "q4"]
    assert all(set(figures) == FIGURES for figures in recorded.values())


def test_fp32_is_pytorchs(
    recorded: dict[str, dict[str, float]],
    tiny_folder: Path,
    tiny: Model,
    tiny_reference: GPT2LMHeadModel,
) -> None:
    text = (tiny_folder / "evaluation.txt").read_text("utf-8")
    losses = negative_log_likelihoods(tiny_reference, tiny.tokenizer.encode(text), 48)
    found = recorded["fp32"]
    assert found["perplexity"] == pytest.approx(math.exp(np.mean(losses)), rel=1e-4)
    bits_per_byte = sum(losses) / math.log(2) / len(text.encode("utf-8"))
    assert found["bits_per_byte"] == pytest.approx(bits_per_byte, rel=1e-4)
    rest = {name: found[name] for name in FIGURES - {"perplexity", "bits_per_byte"}}
    agreements = {"top1_agreement": 1, "top5_agreement": 1, "greedy_agreement": 1}
    assert rest == {"loss": 0, "kl_mean": 0, "kl_p99": 0} | agreements


@pytest.mark.parametrize("variant", ["int8", "q4"])
def test_loss_is_the_relative_rise_of_perplexity(
    recorded: dict[str, dict[str, float]], variant: str
) -> None:
    ratio = recorded[variant]["perplexity"] / recorded["fp32"]["perplexity"]
    assert recorded[variant]["loss"] == pytest.approx(ratio - 1, abs=1e-12)


def test_eight_bits_lose_less_than_four(recorded: dict[str, dict[str, float]]) -> None:
    int8, q4 = recorded["int8"], recorded["q4"]
    assert 0 < int8["kl_mean"] < q4["kl_mean"] / 10
    assert int8["top1_agreement"] > q4["top1_agreement"]
    assert int8["kl_mean"] <= int8["kl_p99"]


class FakeDecoder:
    """Answers every token with the same logits."""

    def __init__(self, logits: Sequence[float]) -> None:
        self._logits = np.array(logits, np.float32)

    def reserve(self, tokens: int) -> None:
        """As if."""

    def prefill(self, token_ids: Sequence[int]) -> NDArray[np.float32]:
        return self._logits[None]

    def step(self, token_id: int) -> NDArray[np.float32]:
        return self._logits[None]

    def rewind(self, length: int) -> None:
        assert length == 0

    def score(self, token_ids: Sequence[int]) -> NDArray[np.float32]:
        return np.tile(self._logits, (len(token_ids), 1))


CONFIG = cast(ModelConfig, SimpleNamespace(n_positions=4, vocab_size=3))
TOKENIZER = cast(
    Tokenizer, SimpleNamespace(encode=lambda text: ["abc".index(letter) for letter in text])
)


def fake(probabilities: Sequence[float]) -> Graph:
    """A graph over three tokens, a, b and c, with a context of 4."""
    with np.errstate(divide="ignore"):
        logits = np.log(probabilities).tolist()
    return cast(Graph, SimpleNamespace(config=CONFIG, decoder=lambda: FakeDecoder(logits)))


def passage_of(text: str, **options: int) -> Passage:
    return Passage.of(text, TOKENIZER, CONFIG, **options)


HAND_TEXT = "a" + 16 * "baac"


@pytest.mark.parametrize("block_bytes", [2**30, 100, 1], ids=["one", "some", "each"])
def test_figures_by_hand(tmp_path: Path, block_bytes: int) -> None:
    """fp32 says 1/2, 1/4, 1/4; the other 1/4, 1/2, 1/4; the text is a, then 16 times b a a c."""
    passage = passage_of(HAND_TEXT, block_bytes=block_bytes)
    found = measure(
        passage,
        lambda: fake([0.5, 0.25, 0.25]),
        {
            "other": lambda: fake([0.25, 0.5, 0.25]),
            "near": lambda: fake([0.4, 0.3, 0.3]),
        },
        tmp_path,
    )
    fp32, other = found["fp32"], found["other"]
    # Bits of b, a, a, c: fp32 2+1+1+2, the other 1+2+2+2.
    assert fp32["perplexity"] == pytest.approx(2 ** (6 / 4), rel=1e-6)
    assert other["perplexity"] == pytest.approx(2 ** (7 / 4), rel=1e-6)
    assert fp32["bits_per_byte"] == pytest.approx(16 * 6 / 65, rel=1e-6)
    assert other["bits_per_byte"] == pytest.approx(16 * 7 / 65, rel=1e-6)
    assert other["loss"] == pytest.approx(2**0.25 - 1, rel=1e-5)
    # 1/2 ln 2 - 1/4 ln 2 + 0, at every token.
    assert other["kl_mean"] == pytest.approx(math.log(2) / 4, rel=1e-5)
    assert other["kl_p99"] == pytest.approx(math.log(2) / 4, rel=1e-5)
    assert other["top1_agreement"] == 0
    assert fp32["top1_agreement"] == 1
    assert other["top5_agreement"] == 1  # of a vocabulary of three
    assert other["greedy_agreement"] == 0  # one goes on a a a, the other b b b
    assert found["near"]["greedy_agreement"] == 1
    # But numpy's headers; the first window predicts three tokens.
    on_disk = sum(path.stat().st_size - 128 for path in tmp_path.iterdir())
    assert on_disk <= max(block_bytes, 4 * 3 * 3)


def test_blocks_hold_what_they_may(tmp_path: Path) -> None:
    """Every token but the first is predicted once, whatever the blocks."""
    for most in (1, 100, 500, 2**30):
        blocks = passage_of(HAND_TEXT, block_bytes=most).blocks
        predicted = [t for block in blocks for _, first, end in block for t in range(first, end)]
        assert predicted == list(range(1, 65))
        for block in blocks:
            assert len(block) == 1 or sum(end - first for _, first, end in block) * 12 <= most


def test_wikitext_takes_less_than_2_gb() -> None:
    """Its test set's 287,644 tokens, by GPT-2's vocabulary and context."""
    config = ModelConfig(n_layer=12, n_head=12, n_embd=768, n_positions=1024, vocab_size=50_257)
    tokenizer = cast(Any, SimpleNamespace(encode=lambda text: [0] * 287_644))
    blocks = Passage.of("", tokenizer, config).blocks
    largest = max(sum(end - first for _, first, end in block) for block in blocks)
    assert 5e8 < 4 * 50_257 * largest <= 2**30


@pytest.mark.parametrize("probabilities", [[math.nan, 0.5, 0.5], [0.5, 0.5, 0]])
def test_logits_that_are_not_finite(tmp_path: Path, probabilities: list[float]) -> None:
    reference = Reference(fake([0.5, 0.25, 0.25]), passage_of(16 * "baac"), tmp_path)
    with pytest.raises(QuantizationError, match="fake gives logits that are not finite"):
        reference.figures("fake", fake(probabilities))


@pytest.mark.parametrize("text", ["", "a", 63 * "a"])
def test_text_too_short(text: str) -> None:
    with pytest.raises(QuantizationError, match=r"too short to measure quality on; give one of 64"):
        passage_of(text)


def test_progress_reaches_the_end(tmp_path: Path) -> None:
    reports: list[tuple[int, int]] = []

    def progress(done: int, total: int) -> None:
        reports.append((done, total))

    reference = Reference(fake([0.5, 0.25, 0.25]), passage_of(22 * "abc"), tmp_path, progress)
    assert reports[-1] == (65, 65)
    reports.clear()
    reference.compare(fake([0.25, 0.5, 0.25]), progress)
    assert reports[-1] == (65, 65)


def test_recorded_figures_are_those_of_score(
    recorded: dict[str, dict[str, float]], tiny_folder: Path
) -> None:
    text = (tiny_folder / "evaluation.txt").read_text("utf-8")
    for name, figures in recorded.items():
        score = pocketgpt.load(tiny_folder, name, kv_cache="float").score(text)
        assert figures["perplexity"] == pytest.approx(score.perplexity, rel=1e-5)
