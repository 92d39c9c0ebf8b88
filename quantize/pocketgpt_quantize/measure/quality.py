"""How far a variant is from fp32 on one text: fp32's distributions, recorded once, then compared.

They lie on disk, in float32, while variants are measured one after another: no two models have to
be in memory together. A text of T tokens takes 4 * T * vocab_size bytes there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pocketgpt import Model, QuantizationError
from pocketgpt.engine.decoder import Decoder
from pocketgpt.generation.processors import Logits, log_softmax
from pocketgpt.measure.score import Score, window_logits

CHUNK = 64  # tokens whose logits are in memory at once
ROWS = 16  # of them that are compared at once
MIN_TOKENS = 64  # a shorter text measures noise
PROMPTS, PROMPT_TOKENS, GREEDY_TOKENS = 16, 32, 64
TOP = 5

Progress = Callable[[int, int], None]


class Reference:
    """What fp32 says about a text, to hold variants against.

    Attributes:
        token_ids: the text's.
    """

    def __init__(
        self,
        model: Model,
        text: str,
        folder: Path,
        progress: Progress | None = None,
        *,
        continuations: bool = True,
    ) -> None:
        """Record fp32's distributions over `text` in `folder`, which has to be there.

        Args:
            model: the fp32 variant.
            text: what to measure on.
            folder: where the distributions go; the caller removes it.
            progress: called with (tokens measured, tokens in all).
            continuations: whether to measure greedy agreement too, which takes single steps.

        Raises:
            QuantizationError: the text has fewer than 64 tokens.
        """
        self.token_ids = model.tokenizer.encode(text)
        self._bytes = len(text.encode("utf-8"))
        if len(self.token_ids) < MIN_TOKENS:
            raise QuantizationError(
                f"a text of {len(self.token_ids)} tokens is too short to measure quality on; "
                f"give one of {MIN_TOKENS} tokens or more, better of 10,000"
            )
        self._folder = folder
        log_probs = []
        for index, (targets, found) in enumerate(self._chunks(model, progress)):
            np.save(self._chunk(index), found)
            log_probs.append(found[np.arange(len(targets)), targets])
        self._score = Score(np.concatenate(log_probs), self._bytes)
        cut = prompts(self.token_ids, model.config.n_positions)
        self._prompts = cut if continuations else []
        self._continuations = [greedy(model, prompt) for prompt in self._prompts]

    def compare(self, model: Model, progress: Progress | None = None) -> dict[str, float]:
        """Measure a variant of the same model.

        `perplexity` and `bits_per_byte`; `loss`, the relative rise of perplexity over fp32;
        `kl_mean` and `kl_p99`, the mean and 99th percentile over tokens of the Kullback-Leibler
        divergence from fp32's distribution, in nats; `top1_agreement`, the share of tokens at which
        both find the same one likeliest, and `top5_agreement`, the share of fp32's five likeliest
        that are among the variant's five; `greedy_agreement`, how much of a greedy continuation of
        up to 64 tokens equals fp32's up to the first difference, on average over prompts cut from
        the text.

        Raises:
            QuantizationError: the variant's logits are not finite numbers.
        """
        log_probs, divergences, top1, top5 = [], [], [], []
        for index, (targets, actual) in enumerate(self._chunks(model, progress)):
            expected = np.load(self._chunk(index))
            log_probs.append(actual[np.arange(len(targets)), targets])
            divergences.append((np.exp(expected) * (expected - actual)).sum(axis=-1))
            top1.append(expected.argmax(axis=-1) == actual.argmax(axis=-1))
            top5.append(top_overlap(expected, actual, TOP))
        score, divergence = (
            Score(np.concatenate(log_probs), self._bytes),
            np.concatenate(divergences),
        )
        if not (np.isfinite(divergence).all() and np.isfinite(score.log_probs).all()):
            raise QuantizationError(
                f"{model.variant} gives logits that are not finite; it does not suit this model"
            )
        figures = {
            "perplexity": score.perplexity,
            "bits_per_byte": score.bits_per_byte,
            "loss": score.perplexity / self._score.perplexity - 1,
            "kl_mean": max(0.0, float(divergence.mean(dtype=np.float64))),
            "kl_p99": max(0.0, float(np.quantile(divergence, 0.99))),
            "top1_agreement": float(np.concatenate(top1).mean()),
            "top5_agreement": float(np.concatenate(top5).mean()),
        }
        if self._prompts:
            figures["greedy_agreement"] = self._greedy_agreement(model)
        return figures

    @property
    def figures(self) -> dict[str, float]:
        """fp32's own figures, by `compare`'s names: it agrees with itself."""
        return {
            "perplexity": self._score.perplexity,
            "bits_per_byte": self._score.bits_per_byte,
            "loss": 0.0,
            "kl_mean": 0.0,
            "kl_p99": 0.0,
            "top1_agreement": 1.0,
            "top5_agreement": 1.0,
            "greedy_agreement": 1.0,
        }

    def _chunks(
        self, model: Model, progress: Progress | None
    ) -> Iterator[tuple[NDArray[np.int64], Logits]]:
        """Yield `(targets [n], log-probabilities [n, vocab_size])`, windows half overlapping."""
        n_positions, done = model.config.n_positions, 0

        def new_decoder() -> Decoder:
            decoder = model.decoder()
            decoder.reserve(n_positions)  # now: a cache that grows is copied
            return decoder

        for targets, logits in window_logits(
            new_decoder, self.token_ids, n_positions, n_positions // 2, CHUNK
        ):
            for start in range(0, len(targets), ROWS):
                rows = slice(start, start + ROWS)
                yield np.asarray(targets[rows]), log_softmax(logits[rows])
            done += len(targets)
            del logits  # before the next ones come
            if progress:
                progress(done, len(self.token_ids) - 1)

    def _chunk(self, index: int) -> Path:
        return self._folder / f"{index}.npy"

    def _greedy_agreement(self, model: Model) -> float:
        shares = [
            common_prefix(greedy(model, prompt), expected) / len(expected)
            for prompt, expected in zip(self._prompts, self._continuations, strict=True)
        ]
        return sum(shares) / len(shares)


def prompts(token_ids: Sequence[int], n_positions: int) -> list[Sequence[int]]:
    """Cut up to 16 prompts of up to 32 tokens, evenly spaced, from a text."""
    length = min(PROMPT_TOKENS, n_positions // 2)
    count = min(PROMPTS, len(token_ids) // length)
    starts = [index * len(token_ids) // count for index in range(count)]
    return [token_ids[start : start + length] for start in starts]


def greedy(model: Model, prompt: Sequence[int]) -> list[int]:
    """Return the likeliest 64 tokens after a prompt (fewer in a short context), past any EOS."""
    decoder = model.decoder()
    logits = decoder.prefill(prompt)
    made = [int(logits[0].argmax())]
    while len(made) < min(GREEDY_TOKENS, model.config.n_positions - len(prompt)):
        made.append(int(decoder.step(made[-1])[0].argmax()))
    return made


def common_prefix(first: Sequence[int], second: Sequence[int]) -> int:
    """Return how many leading items two sequences of one length share."""
    pairs = enumerate(zip(first, second, strict=True))
    return next((index for index, (a, b) in pairs if a != b), len(first))


def top_overlap(expected: Logits, actual: Logits, count: int) -> NDArray[np.float64]:
    """Return, row by row, the share of `expected`'s `count` largest among `actual`'s."""
    count = min(count, expected.shape[-1])
    likeliest, found = (
        np.argpartition(-logits, count - 1, axis=-1)[:, :count] for logits in (expected, actual)
    )
    hits = (likeliest[:, :, None] == found[:, None, :]).any(axis=-1)
    share: NDArray[np.float64] = hits.mean(axis=-1)
    return share
