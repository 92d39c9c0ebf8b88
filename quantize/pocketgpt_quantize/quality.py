"""How far a variant is from fp32, measured on one text in one pass over all variants."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from pocketgpt import Model, QuantizationError
from pocketgpt.processors import Logits, log_softmax
from pocketgpt.score import Score, window_logits

REFERENCE = "fp32"


class _Tally:
    """Figures of one variant, gathered window by window."""

    def __init__(self) -> None:
        self.log_probs: list[NDArray[np.float32]] = []
        self.divergences: list[NDArray[np.float32]] = []
        self.agreements: list[NDArray[np.bool_]] = []

    def add(self, reference: Logits, found: Logits, targets: NDArray[np.int64]) -> None:
        expected, actual = log_softmax(reference), log_softmax(found)
        self.log_probs.append(actual[np.arange(len(targets)), targets])
        self.divergences.append((np.exp(expected) * (expected - actual)).sum(axis=-1))
        self.agreements.append(expected.argmax(axis=-1) == actual.argmax(axis=-1))

    def figures(self, text_bytes: int, reference: Score) -> dict[str, float]:
        score = Score(np.concatenate(self.log_probs), text_bytes)
        divergence = np.concatenate(self.divergences)
        return {
            "perplexity": score.perplexity,
            "bits_per_byte": score.bits_per_byte,
            "loss": score.perplexity / reference.perplexity - 1,
            "kl_mean": max(0.0, float(divergence.mean(dtype=np.float64))),
            "kl_p99": max(0.0, float(np.quantile(divergence, 0.99))),
            "top1_agreement": float(np.concatenate(self.agreements).mean()),
        }


def measure(
    models: Mapping[str, Model], text: str, progress: Callable[[int, int], None] | None = None
) -> dict[str, dict[str, float]]:
    """Measure variants of one model, fp32 among them, on `text`.

    Sliding windows of the whole context, half of it apart. A variant's figures: `perplexity`;
    `bits_per_byte`; `loss`, the relative rise of perplexity over fp32; `kl_mean` and `kl_p99`, the
    mean and 99th percentile over tokens of the Kullback-Leibler divergence from fp32's distribution
    in nats; `top1_agreement`, the share of tokens at which both find the same one likeliest.

    Args:
        models: by variant; `fp32` has to be there.
        text: what to measure on.
        progress: called with (tokens measured, tokens in all).

    Raises:
        QuantizationError: the text is shorter than two tokens.
    """
    reference = models[REFERENCE]
    token_ids = reference.tokenizer.encode(text)
    if len(token_ids) < 2:
        raise QuantizationError("the evaluation text is shorter than two tokens; give a longer one")
    n_positions = reference.config.n_positions
    tallies = {name: _Tally() for name in models}
    passes = [
        window_logits(model.new_decoder, token_ids, n_positions, n_positions // 2)
        for model in models.values()
    ]
    done = 0
    for steps in zip(*passes, strict=True):
        chunks = dict(zip(models, steps, strict=True))
        targets = np.asarray(chunks[REFERENCE][0])
        for name, (_, logits) in chunks.items():
            tallies[name].add(chunks[REFERENCE][1], logits, targets)
        done += len(targets)
        if progress:
            progress(done, len(token_ids) - 1)
    size = len(text.encode("utf-8"))
    score = Score(np.concatenate(tallies[REFERENCE].log_probs), size)
    return {name: tally.figures(size, score) for name, tally in tallies.items()}
