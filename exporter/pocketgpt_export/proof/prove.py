"""The graph against PyTorch, in every way the runtime feeds it: worst difference by check."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import pairwise

import numpy as np
from transformers import PreTrainedTokenizerFast

from pocketgpt.engine.graph import Graph
from pocketgpt.text.tokenizer import Tokenizer

from .pooled import pooled_difference
from .ragged_batch import Batch
from .reference import Expected, Logits, Reference
from .tokenizer import tokenizer_failures

TOLERANCE = 1e-4  # absolute, on float32 logits
# Beyond logits of 100, float32 itself is too coarse for that: its step there is 8e-6, and a logit
# is a sum of thousands of roundings. So at least 16 of its steps are allowed.
RELATIVE_TOLERANCE = 1e-6
# Where float32 itself loses more than that (see float64.py), this many times what it loses: the
# graph rounds in another order than PyTorch does.
FLOAT32_ERRORS = 4
CHUNKS = (1, 7, 16)
DECODED = 3  # tokens that the batch decodes after its prompts


def prove(
    graph: Graph,
    tokenizer: Tokenizer,
    reference: Reference,
    own_tokenizer: PreTrainedTokenizerFast,
) -> tuple[dict[str, float], list[str]]:
    """Run an exported fp32 graph over the reference's sequences, and its tokenizer over texts.

    Returns:
        What was found, and a line for every check that does not hold. Found is the worst absolute
        difference of a logit by check: `one_shot`, all logits of one pass; `cached`, ids fed one at
        a time; `chunked`, in chunks of 1, 7, 16 and the rest; `ragged_batch`, a right-padded batch,
        prompts and then decoding, against each row alone; `eos_prompt`, a prompt that contains EOS
        and ends in it; `context_end`, the last positions of the context, fed one at a time; of a
        classifier also `pooled`, what its own class gives for a batch of texts. And under
        `tokenizer` the number of texts that `own_tokenizer` treats otherwise.
    """
    found = {
        "one_shot": _largest(_one_shot(graph, case) for case in reference.whole),
        "cached": _largest(_cached(graph, case) for case in reference.whole),
        "chunked": _largest(_chunked(graph, case) for case in reference.whole),
        "ragged_batch": _ragged_batch(graph, reference),
        "eos_prompt": _after_prefill(graph, reference.with_eos, reference.prompt_tokens),
        "context_end": _largest(
            _after_prefill(graph, case, len(case.ids) - len(case.logits) + 1)
            for case in reference.context
        ),
    }
    if reference.pooled is not None:
        found["pooled"] = pooled_difference(graph, reference.pooled)
    failed = failures(found, tolerance(reference))
    texts = tokenizer_failures(tokenizer, own_tokenizer)
    return {**found, "tokenizer": float(len(texts))}, failed + texts


def tolerance(reference: Reference) -> float:
    """Return the largest difference that proves equality: 1e-4, or more beyond logits of 100."""
    return tolerance_up_to(reference.largest, reference.float32_error)


def tolerance_up_to(largest: float, float32_error: float = 0.0) -> float:
    """Return the same for logits of magnitudes up to `largest`, that float32 is so far off of."""
    return max(TOLERANCE, RELATIVE_TOLERANCE * largest, FLOAT32_ERRORS * float32_error)


def failures(found: Mapping[str, float], allowed: float) -> list[str]:
    """Return a line for every check that does not hold; a difference that is no number fails."""
    return [
        f"the graph is not the checkpoint: logits differ by {worst:.2g} in the check {check}, over "
        f"{allowed:.2g}; please report this checkpoint's config.json"
        for check, worst in found.items()
        if not worst <= allowed
    ]


def _one_shot(graph: Graph, case: Expected) -> float:
    return _worst(graph.decoder().score(case.ids), case.logits)


def _cached(graph: Graph, case: Expected) -> float:
    return _worst(_steps(graph.decoder().step, case.ids), case.logits)


def _chunked(graph: Graph, case: Expected) -> float:
    decoder = graph.decoder()
    edges = [0, *np.cumsum(CHUNKS).tolist(), len(case.ids)]
    chunks = [case.ids[a:b] for a, b in pairwise(edges) if case.ids[a:b]]
    return _worst(np.concatenate([decoder.score(chunk) for chunk in chunks]), case.logits)


def _after_prefill(graph: Graph, case: Expected, prompt_tokens: int) -> float:
    """Feed a prompt at once and the other ids one at a time; compare from the prompt's end on."""
    decoder = graph.decoder()
    found = decoder.prefill(case.ids[:prompt_tokens]).copy()
    rest = case.ids[prompt_tokens:]
    if rest:
        found = np.concatenate([found, _steps(decoder.step, rest)])
    return _worst(found, case.logits[-len(found) :])


def _ragged_batch(graph: Graph, reference: Reference) -> float:
    """Prefill rows of different lengths at once, pads being EOS, and decode them together."""
    cases = (*reference.whole, reference.with_eos, reference.whole[-1])
    tokens, prompt = len(reference.with_eos.ids), reference.prompt_tokens
    decoded = min(DECODED, tokens - prompt)
    lengths = [tokens - decoded, prompt // 2 + 1, prompt, 1]
    rows = [case.ids[:length] for case, length in zip(cases, lengths, strict=True)]
    batch = Batch(graph, reference.eos_token_id)
    found = [batch.prefill(rows)]
    for step in range(decoded):
        ids = [case.ids[length + step] for case, length in zip(cases, lengths, strict=True)]
        found.append(batch.step(ids))
    return _largest(
        _worst(logits[row], case.logits[length - 1 + step])
        for step, logits in enumerate(found)
        for row, (case, length) in enumerate(zip(cases, lengths, strict=True))
    )


def _steps(step: Callable[[int], Logits], ids: Sequence[int]) -> Logits:
    return np.concatenate([step(token_id).copy() for token_id in ids])


def _largest(differences: Iterable[float]) -> float:
    """Return the largest; NaN if one is, which `max` would lose."""
    return float(np.max([*differences]))


def _worst(found: Logits, expected: Logits) -> float:
    return float(np.abs(found - expected).max())
