"""How far a classifier's variant is from fp32: their labels on the same texts, one text a line.

A model of labels is held to what a model of tokens is: by how much a variant's perplexity rises
where fp32's distribution is the truth, which is the exponential of the Kullback-Leibler divergence.
And it has to keep nearly every text's label: a divergence says little of texts that lie between.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from pocketgpt import InferenceError, QuantizationError
from pocketgpt.engine.graph import Graph
from pocketgpt.folder.config import ModelConfig
from pocketgpt.folder.labels import Labels
from pocketgpt.generation.processors import Logits
from pocketgpt.tasks.classify import encode_text, label_logits
from pocketgpt.text.tokenizer import Tokenizer

MIN_TEXTS = 8  # fewer measure noise
# The share of texts that keep their label, and of a regression's variance that is explained.
MIN_AGREEMENT = 0.98
BATCH_SIZE = 16
LARGEST = 700.0  # nats; the exponential of more is beyond float64
LEAST_DEVIATION = 1e-3  # of a regression's largest value: one that never varies has none

Figures = dict[str, float]


@dataclass(frozen=True)
class TextSet:
    """Texts to classify: the token ids of each."""

    texts: list[list[int]]

    @classmethod
    def of(cls, content: str, tokenizer: Tokenizer, config: ModelConfig) -> TextSet:
        """Read a text a line; empty lines are passed over, and long ones read to the context's end.

        Raises:
            QuantizationError: there are fewer than 8.
        """
        lines = [line.removesuffix("\r") for line in content.split("\n") if line.strip()]
        if len(lines) < MIN_TEXTS:
            raise QuantizationError(
                f"a classifier is measured on a text a line, and of {len(lines)} lines are too "
                f"few; give {MIN_TEXTS} or more, better 1,000"
            )
        return cls([encode_text(t, tokenizer, config.n_positions, truncation=True) for t in lines])

    @property
    def token_ids(self) -> list[int]:
        """The tokens of all, one text after another."""
        return [token_id for text in self.texts for token_id in text]


def measure_labels(
    texts: TextSet,
    config: ModelConfig,
    fp32: Callable[[], Graph],
    variants: Mapping[str, Callable[[], Graph]],
    progress: Callable[[str, int, int], None] | None = None,
) -> dict[str, Figures]:
    """Measure a classifier's variants against its fp32 one; return the figures of all.

    Args:
        texts: what to classify.
        config: the classifier's.
        fp32: opens the fp32 variant.
        variants: by name what opens one.
        progress: called with (the variant's name, texts classified, texts in all).

    Raises:
        QuantizationError: a variant's logits are not finite numbers.
    """
    assert config.labels is not None
    found = {}
    for name, opener in {"fp32": fp32, **variants}.items():
        report = partial(progress, name) if progress else None
        try:
            graph = opener()
            found[name] = label_logits(graph.decoder, texts.texts, config, BATCH_SIZE, report)
        except InferenceError as error:
            raise QuantizationError(f"{name} does not suit this model: {error}") from error
    return {
        name: label_figures(found["fp32"], logits, config.labels) for name, logits in found.items()
    }


def label_figures(expected: Logits, actual: Logits, labels: Labels) -> Figures:
    """Return how far a variant's logits are from fp32's, in a few numbers.

    `label_agreement`, the share of texts with the same likeliest label, where labels do not exclude
    each other that of labels given or not given alike (a probability above one half gives one), or
    of a regression `r2`, the share of its values' variance that the variant explains (of several
    values the least explained one's); `kl_mean` and `kl_p99`, the mean and the 99th percentile over
    texts of the Kullback-Leibler divergence from fp32, in nats; `loss`, what the perplexity of
    labels rises by; `texts`, how many there were.

    Args:
        expected: fp32's logits `[texts, num_labels]`.
        actual: the variant's.
        labels: the classifier's.
    """
    said, found = expected.astype(np.float64), actual.astype(np.float64)
    divergence = np.maximum(divergences(said, found, labels), 0)
    kl_mean = min(float(divergence.mean()), LARGEST)
    agreement = (
        {"r2": explained(said, found)}
        if labels.activation == "none"
        else {"label_agreement": float(same_labels(said, found, labels).mean())}
    )
    return {
        **agreement,
        "kl_mean": kl_mean,
        "kl_p99": min(float(np.quantile(divergence, 0.99)), LARGEST),
        "loss": math.expm1(kl_mean),
        "texts": float(len(expected)),
    }


def divergences(
    expected: NDArray[np.float64], actual: NDArray[np.float64], labels: Labels
) -> NDArray[np.float64]:
    """Return each text's divergence `[texts]` of `actual` from `expected` logits, in nats.

    Labels that do not exclude each other are as many distributions of two outcomes, whose
    divergences add up. A regression's value stands for a normal distribution that varies as fp32's
    values do from text to text: `difference^2 / (2 variance)`.
    """
    if labels.activation == "softmax":
        log_p, log_q = _log_softmax(expected), _log_softmax(actual)
        return np.asarray((np.exp(log_p) * (log_p - log_q)).sum(axis=-1))
    if labels.activation == "sigmoid":
        total = np.zeros(len(expected))
        for sign in (1, -1):  # log sigmoid(x) = -log(1 + e^-x)
            log_p = -np.logaddexp(0, -sign * expected)
            log_q = -np.logaddexp(0, -sign * actual)
            total += (np.exp(log_p) * (log_p - log_q)).sum(axis=-1)
        return total
    return np.asarray(((actual - expected) ** 2 / (2 * _variance(expected))).sum(axis=-1))


def same_labels(
    expected: NDArray[np.float64], actual: NDArray[np.float64], labels: Labels
) -> NDArray[np.bool_]:
    """Return whether labels agree, by text, or by text and label where several may be given."""
    if labels.activation == "softmax":
        return np.asarray(expected.argmax(axis=-1) == actual.argmax(axis=-1))
    return np.asarray((expected > 0) == (actual > 0))


def explained(expected: NDArray[np.float64], actual: NDArray[np.float64]) -> float:
    """Return the coefficient of determination, of several values the least."""
    lost = ((actual - expected) ** 2).mean(axis=0)
    return float((1 - lost / _variance(expected)).min())


def _log_softmax(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(logits - np.logaddexp.reduce(logits, axis=-1, keepdims=True))


def _variance(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the variance over texts, `[num_labels]`, never quite zero."""
    least = np.maximum(LEAST_DEVIATION * np.abs(values).max(axis=0), np.finfo(np.float32).tiny)
    return np.asarray(np.maximum(values.var(axis=0), least**2))


def agreement_of(quality: Mapping[str, float]) -> tuple[str, float] | None:
    """Return which agreement figures have, and its value; None of a language model's."""
    names: Sequence[str] = ("label_agreement", "r2")
    return next(((name, quality[name]) for name in names if name in quality), None)
