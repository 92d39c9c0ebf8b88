"""How far a variant is from fp32 on one text: fp32's distributions, recorded, then compared.

They lie on disk, in float32, while variants are measured one after another: no two models have to
be in memory together. A token takes 4 * vocab_size bytes there, so a long text is measured in
blocks of a gigabyte, in each of which every model has its turn.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pocketgpt import QuantizationError
from pocketgpt.engine.graph import Graph
from pocketgpt.folder.config import ModelConfig
from pocketgpt.generation.processors import Logits, log_softmax
from pocketgpt.measure.score import Score, windows
from pocketgpt.text.tokenizer import Tokenizer

CHUNK = 64  # tokens whose logits are in memory at once
ROWS = 16  # of them that are compared at once
MIN_TOKENS = 64  # a shorter text measures noise
BLOCK_BYTES = 2**30  # of distributions that lie on disk at once
PROMPTS, PROMPT_TOKENS, GREEDY_TOKENS = 16, 32, 64
TOP = 5

Progress = Callable[[int, int], None]
Window = tuple[int, int, int]  # feed tokens begin:end, of which first:end are predicted


@dataclass(frozen=True)
class Passage:
    """A text to measure on: its tokens, its bytes, and the windows it is fed in, half overlapping.

    `blocks` has windows together whose distributions have at most a gigabyte, or one window.
    """

    token_ids: list[int]
    bytes: int
    blocks: list[list[Window]]
    prompts: list[Sequence[int]]

    @classmethod
    def of(
        cls, text: str, tokenizer: Tokenizer, config: ModelConfig, block_bytes: int = BLOCK_BYTES
    ) -> Passage:
        """Cut a text for a model.

        Raises:
            QuantizationError: it has fewer than 64 tokens.
        """
        token_ids, n_positions = tokenizer.encode(text), config.n_positions
        if len(token_ids) < MIN_TOKENS:
            raise QuantizationError(
                f"a text of {len(token_ids)} tokens is too short to measure quality on; "
                f"give one of {MIN_TOKENS} tokens or more, better of 10,000"
            )
        blocks: list[list[Window]] = []
        for begin, first, ids in windows(token_ids, n_positions, max(1, n_positions // 2)):
            window = begin, first, begin + len(ids)
            together = tokens_of([*blocks[-1], window]) if blocks else 0
            if not blocks or 4 * config.vocab_size * together > block_bytes:
                blocks.append([])
            blocks[-1].append(window)
        cut = prompts(token_ids, n_positions)
        return cls(token_ids, len(text.encode("utf-8")), blocks, cut)

    @property
    def disk_bytes(self) -> int:
        """What fp32's distributions take on disk, for each entry of the vocabulary."""
        return 4 * max(map(tokens_of, self.blocks))


@dataclass
class Findings:
    """What a model says of a text, in the text's order, part by part.

    `log_probs` of its tokens `[n]`; and beside what fp32 says, `divergences` in nats `[n]`, whether
    both find the same token likeliest `[n]`, and the share of fp32's five likeliest that are among
    its own `[n]`; `agreements` are the shares of fp32's greedy continuations that it repeats.
    """

    log_probs: list[NDArray[np.floating]] = field(default_factory=list)
    divergences: list[NDArray[np.floating]] = field(default_factory=list)
    top1: list[NDArray[np.bool_]] = field(default_factory=list)
    top5: list[NDArray[np.float64]] = field(default_factory=list)
    agreements: list[float] = field(default_factory=list)

    def extend(self, other: Findings) -> None:
        """Append what was found of the text's next part."""
        self.log_probs += other.log_probs
        self.divergences += other.divergences
        self.top1 += other.top1
        self.top5 += other.top5
        self.agreements += other.agreements


class Reference:
    """What fp32 says about a block of a text, to hold variants against.

    Attributes:
        found: its own findings: log-probabilities alone.
    """

    def __init__(
        self,
        graph: Graph,
        passage: Passage,
        folder: Path,
        progress: Progress | None = None,
        *,
        block: int = 0,
        continuations: bool = True,
    ) -> None:
        """Record fp32's distributions in `folder`, which has to be there.

        Args:
            graph: the fp32 variant's.
            passage: the text.
            folder: where the distributions go, over those of an earlier block.
            progress: called with (tokens of the block measured, tokens in the block).
            block: which of the text's to measure.
            continuations: whether to measure greedy agreement too, which takes single steps.
        """
        self._passage, self._token_ids = passage, passage.token_ids
        self._block, self._folder = passage.blocks[block], folder
        self.found = Findings()
        for index, (targets, log_probs) in enumerate(self._chunks(graph, progress)):
            np.save(self._chunk(index), log_probs)
            self.found.log_probs.append(log_probs[np.arange(len(targets)), targets])
        cut = passage.prompts if continuations else []
        self._continuations = [(prompt, greedy(graph, prompt)) for prompt in cut]

    def compare(self, graph: Graph, progress: Progress | None = None) -> Findings:
        """Measure a variant of the same model."""
        found = Findings()
        for index, (targets, actual) in enumerate(self._chunks(graph, progress)):
            expected = np.load(self._chunk(index))
            found.log_probs.append(actual[np.arange(len(targets)), targets])
            found.divergences.append((np.exp(expected) * (expected - actual)).sum(axis=-1))
            found.top1.append(expected.argmax(axis=-1) == actual.argmax(axis=-1))
            found.top5.append(top_overlap(expected, actual, TOP))
        for prompt, expected_ids in self._continuations:
            shared = common_prefix(greedy(graph, prompt), expected_ids)
            found.agreements.append(shared / len(expected_ids))
        return found

    def figures(self, name: str, graph: Graph) -> dict[str, float]:
        """Measure a variant on this block alone, in the numbers of `figures`."""
        return figures(name, self.found, self.compare(graph), self._passage)

    def _chunks(
        self, graph: Graph, progress: Progress | None
    ) -> Iterator[tuple[NDArray[np.int64], Logits]]:
        """Yield `(targets [n], log-probabilities [n, vocab_size])`, few at once."""
        done, total = 0, tokens_of(self._block)
        for begin, first, end in self._block:
            decoder = graph.decoder()
            decoder.reserve(graph.config.n_positions)  # now: a cache that grows is copied
            if first - 1 > begin:
                decoder.prefill(self._token_ids[begin : first - 1])
            for start in range(first - 1, end - 1, CHUNK):
                stop = min(start + CHUNK, end - 1)
                logits = decoder.score(self._token_ids[start:stop])
                for row in range(0, stop - start, ROWS):
                    targets = self._token_ids[start + 1 + row : min(start + row + ROWS, stop) + 1]
                    yield np.asarray(targets), log_softmax(logits[row : row + ROWS])
                del logits  # before the next ones come
                done += stop - start
                if progress:
                    progress(done, total)

    def _chunk(self, index: int) -> Path:
        return self._folder / f"{index}.npy"


def measure(
    passage: Passage,
    fp32: Callable[[], Graph],
    variants: Mapping[str, Callable[[], Graph]],
    folder: Path,
    progress: Callable[[str, int, int], None] | None = None,
) -> dict[str, dict[str, float]]:
    """Measure variants of a model against its fp32 one; return the figures of all, fp32's first.

    Args:
        passage: the text.
        fp32: opens the fp32 variant, once a block.
        variants: by name what opens one, once a block.
        folder: where fp32's distributions go, a gigabyte at most; the caller removes it.
        progress: called with (the variant's name, tokens measured, tokens in all).

    Raises:
        QuantizationError: a variant's logits are not finite numbers.
    """
    everything = {name: Findings() for name in ("fp32", *variants)}
    done, total = 0, len(passage.token_ids) - 1

    def report(name: str) -> Progress:
        return lambda measured, _: progress(name, done + measured, total) if progress else None

    for index, block in enumerate(passage.blocks):
        first = index == 0
        reference = Reference(
            fp32(), passage, folder, report("fp32"), block=index, continuations=first
        )
        everything["fp32"].extend(reference.found)
        for name, open_variant in variants.items():
            everything[name].extend(reference.compare(open_variant(), report(name)))
        done += tokens_of(block)
    exact = everything["fp32"]
    return {name: figures(name, exact, found, passage) for name, found in everything.items()}


def figures(name: str, fp32: Findings, found: Findings, passage: Passage) -> dict[str, float]:
    """Return what was found in a few numbers; of fp32 itself, which agrees with itself, too.

    `perplexity` and `bits_per_byte`; `loss`, the relative rise of perplexity over fp32;
    `kl_mean` and `kl_p99`, the mean and 99th percentile over tokens of the Kullback-Leibler
    divergence from fp32's distribution, in nats; `top1_agreement`, the share of tokens at which
    both find the same one likeliest, and `top5_agreement`, the share of fp32's five likeliest
    that are among the variant's five; `greedy_agreement`, how much of a greedy continuation of
    up to 64 tokens equals fp32's up to the first difference, on average over prompts cut from
    the text.

    Args:
        name: the variant's.
        fp32: what fp32 found.
        found: what the variant did; `fp32` itself for fp32's own figures.
        passage: the text.

    Raises:
        QuantizationError: the variant's logits are not finite numbers.
    """
    exact, score = (Score(np.concatenate(one.log_probs), passage.bytes) for one in (fp32, found))
    if found is fp32:
        divergence, top1, top5, agreements = np.zeros(1), np.ones(1), np.ones(1), [1.0]
    else:
        divergence = np.concatenate(found.divergences)
        top1, top5 = np.concatenate(found.top1), np.concatenate(found.top5)
        agreements = found.agreements
    finite = np.isfinite(divergence).all() and np.isfinite(score.log_probs).all()
    if not (finite and math.isfinite(score.perplexity)):
        raise QuantizationError(
            f"{name} gives logits that are not finite; it does not suit this model"
        )
    numbers = {
        "perplexity": score.perplexity,
        "bits_per_byte": score.bits_per_byte,
        "loss": score.perplexity / exact.perplexity - 1,
        "kl_mean": max(0.0, float(divergence.mean(dtype=np.float64))),
        "kl_p99": max(0.0, float(np.quantile(divergence, 0.99))),
        "top1_agreement": float(top1.mean()),
        "top5_agreement": float(top5.mean()),
    }
    if agreements:
        numbers["greedy_agreement"] = sum(agreements) / len(agreements)
    return numbers


def tokens_of(block: Sequence[Window]) -> int:
    """Return how many tokens a block's windows predict."""
    return sum(end - first for _, first, end in block)


def prompts(token_ids: Sequence[int], n_positions: int) -> list[Sequence[int]]:
    """Cut up to 16 prompts of up to 32 tokens, evenly spaced, from a text."""
    length = min(PROMPT_TOKENS, n_positions // 2)
    count = min(PROMPTS, len(token_ids) // length)
    starts = [index * len(token_ids) // count for index in range(count)]
    return [token_ids[start : start + length] for start in starts]


def greedy(graph: Graph, prompt: Sequence[int]) -> list[int]:
    """Return the likeliest 64 tokens after a prompt (fewer in a short context), past any EOS."""
    decoder = graph.decoder()
    logits = decoder.prefill(prompt)
    made = [int(logits[0].argmax())]
    while len(made) < min(GREEDY_TOKENS, graph.config.n_positions - len(prompt)):
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
