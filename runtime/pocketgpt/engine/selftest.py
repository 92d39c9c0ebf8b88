"""Whether a device computes the same model: a fingerprint asked in every way the runtime feeds it.

    one_shot  a prompt in one pass
    chunked   in chunks of several tokens, each behind the ones before
    ragged    all prompts in one pass, padded on the right, then a token of each at a time
    cached    a token at a time; but for the longest prompt, as that takes long

A wrong kernel is wrong in some of these and right in others: one that mixes up its threads from the
fifth token on only in passes over more, one that loses the past only behind one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np

from ..errors import InferenceError
from ..folder.fingerprint import Answer, Fingerprint
from .decoder import Decoder
from .passes import Logits

VERSION = 1  # of what is asked and allowed: a verdict of another one counts no more
# Tokens of the prompts: more than a block of many kernels, and of the cache, which grows as the
# last are appended; an odd number; just over four.
LENGTHS = (66, 17, 6)
ROWS, COLUMNS = 4, 4  # tokens of each that are answered, and logits of each answer
DECIMALS = 5  # of a logit: a tenth of what the exporter's proof allows
# What is allowed of the logits' standard deviation, beyond a variant's own tolerance. On the
# bundled model bfloat16 throughout moves them by 0.03 of it, half precision by 0.005, activations
# in float in place of 8 bits by 0.04; a token that attention misses, behind a prompt of 6, by 0.5.
SHARE = 0.05
LEAST = 1e-3  # allowed of a logit of 1, where nothing deviates

NewDecoder = Callable[[int], Decoder]
Progress = Callable[[str, int, int], None]


def prompts_of(random_ids: Sequence[int], text_ids: Sequence[int]) -> list[list[int]]:
    """Return the prompts of a fingerprint: of random ids, and of a text's, which repeat themselves.

    Both are as long as the context, or at least as the longest prompt.
    """
    sources = (text_ids, random_ids, text_ids[::-1])
    return [[*ids[:length]] for ids, length in zip(sources, LENGTHS, strict=True)]


def take_fingerprint(new_decoder: NewDecoder, prompts: Sequence[Sequence[int]]) -> Fingerprint:
    """Ask a graph, on the CPU, what follows the last tokens of prompts, each in one pass."""
    answers, logits = [], []
    for prompt in prompts:
        rows = new_decoder(1).score(prompt)[-ROWS:].copy()
        likeliest = np.argsort(-rows, axis=1)[:, :COLUMNS]
        chosen = np.take_along_axis(rows, likeliest, axis=1)
        written = [tuple(round(float(logit), DECIMALS) for logit in row) for row in chosen]
        ids = tuple(map(tuple, likeliest.tolist()))
        answers.append(Answer(tuple(prompt), ids, tuple(written)))
        logits.append(rows.astype(np.float64))
    deviation = float(np.concatenate(logits).std())
    return Fingerprint(tuple(answers), round(deviation, DECIMALS))


def allowed(fingerprint: Fingerprint, tolerance: float | None) -> float:
    """Return the largest difference of a logit that a device may show.

    Args:
        fingerprint: the variant's.
        tolerance: the variant's own, between two ways to compute it on the CPU; None for fp32's.
    """
    largest = max(abs(logit) for answer in fingerprint.answers for logit in _flat(answer))
    return max(tolerance or 0.0, SHARE * fingerprint.deviation, LEAST * largest)


def differences(
    new_decoder: NewDecoder,
    fingerprint: Fingerprint,
    progress: Progress | None = None,
    *,
    enough: float = math.inf,
) -> dict[str, float]:
    """Ask a graph again, wherever it runs; return by check the largest difference of a logit.

    Args:
        new_decoder: gives a decoder of so many texts.
        fingerprint: what the CPU answered.
        progress: called with (what is done now, checks done, checks in all).
        enough: end with the first check whose difference is larger.

    Raises:
        InferenceError: ONNX Runtime could not run the graph, or an id is none of the model's.
    """
    answers = fingerprint.answers
    shorter = sorted(answers, key=lambda answer: len(answer.prompt))[:-1] or answers
    checks: Mapping[str, Callable[[], Iterator[float]]] = {
        "one_shot": lambda: (d for a in answers for d in _one_shot(new_decoder(1), a)),
        "chunked": lambda: (_chunked(new_decoder(1), a) for a in answers),
        "ragged": lambda: iter([_ragged(new_decoder(len(answers)), answers)]),
        "cached": lambda: (_cached(new_decoder(1), a) for a in shorter),
    }
    found: dict[str, float] = {}
    for done, (name, check) in enumerate(checks.items()):
        if progress:
            progress("testing the provider", done, len(checks))
        found[name] = float(np.max([*check()]))  # NaN if one is, which `max` would lose
        if not found[name] <= enough:
            break
    if progress:
        progress("testing the provider", len(checks), len(checks))
    return found


def _one_shot(decoder: Decoder, answer: Answer) -> Iterator[float]:
    yield _worst(decoder.score(answer.prompt)[-len(answer.logits) :], answer)
    decoder.rewind(0)
    yield _worst(decoder.append(answer.prompt), answer)


def _cached(decoder: Decoder, answer: Answer) -> float:
    rows = [decoder.step(token_id).copy() for token_id in answer.prompt]
    return _worst(np.concatenate(rows[-len(answer.logits) :]), answer)


def _chunked(decoder: Decoder, answer: Answer) -> float:
    """Feed a third without logits, then what leads to the first answer, then the rest."""
    end = len(answer.prompt)
    begin = end - len(answer.logits) + 1
    if begin // 3:
        decoder.feed(answer.prompt[: begin // 3])
    rows = [decoder.append(answer.prompt[begin // 3 : begin]).copy()]
    if begin < end:
        rows.append(decoder.score(answer.prompt[begin:]))
    return _worst(np.concatenate(rows), answer)


def _ragged(decoder: Decoder, answers: Sequence[Answer]) -> float:
    steps = min(len(answer.logits) for answer in answers) - 1
    starts = [len(answer.prompt) - steps for answer in answers]
    prompts = [a.prompt[:start] for a, start in zip(answers, starts, strict=True)]
    rows = [decoder.fill(prompts).copy()]
    for step in range(steps):
        tokens = [a.prompt[start + step] for a, start in zip(answers, starts, strict=True)]
        rows.append(decoder.step(tokens).copy())
    found = np.stack(rows, axis=1)  # [prompts, answered, vocab_size]
    return float(np.max([_worst(found[i], answer) for i, answer in enumerate(answers)]))


def _worst(found: Logits, answer: Answer) -> float:
    """Compare the logits after the last tokens of a prompt, as many as were found."""
    ids = np.array(answer.likeliest[-len(found) :])
    if ids.max() >= found.shape[1]:
        raise InferenceError("the fingerprint is another model's; export the model again")
    expected = np.array(answer.logits[-len(found) :])
    return float(np.abs(np.take_along_axis(found, ids, axis=1) - expected).max())


def _flat(answer: Answer) -> list[float]:
    return [logit for row in answer.logits for logit in row]
