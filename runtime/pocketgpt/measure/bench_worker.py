"""What `bench` runs for one variant: `python -m pocketgpt.measure.bench_worker '{"folder": ...}'`.

Prints one line of JSON: the figures, or `{"error": ...}`.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from typing import Any

import numpy as np

from ..engine.running import Running
from ..errors import OptionError, PocketGPTError
from ..generation.generator import TextGenerator
from ..generation.processors import Ids, Logits
from ..generation.request import Request
from ..generation.sequence import TokenSequence
from .machine import peak_memory

PROMPTS = (32, 512)  # tokens; and as many as the context holds
BATCHES = (1, 8)
NEW_TOKENS = 64
RUNS = 3
PASSAGE, TIMES = 24, 3  # tokens of what a text repeats, and how often its prompt does


def measure(
    folder: str,
    variant: str,
    provider: Any,
    threads: int,
    strict: bool = False,
    selftest: bool = True,
    prompt_lookup_num_tokens: int | None = None,
    assistant: str | None = None,
) -> dict[str, Any]:
    """Return a variant's figures: fields of `VariantSpeed`."""
    begin = time.perf_counter()
    provider = tuple(provider) if isinstance(provider, list) else provider
    running = Running(provider, threads, strict=strict, selftest=selftest)
    model = TextGenerator.open(folder, variant, running, assistant=assistant)
    load_seconds = time.perf_counter() - begin
    longest = model.config.n_positions - 1  # and one new token
    if longest < 2:
        raise OptionError("a context below 3 tokens has no room for a prompt and two new tokens")
    lengths = sorted({min(length, longest) for length in (*PROMPTS, longest)})
    prompt = min(lengths[0], longest // 2)  # at least one token
    new_tokens = min(NEW_TOKENS, model.config.n_positions - prompt)
    _decode(model, 1, prompt, 2)  # the first run allocates
    first_token = {
        length: statistics.median(_first_token(model, length) for _ in range(RUNS))
        for length in lengths
    }
    decoded = {
        rows: statistics.median(_decode(model, rows, prompt, new_tokens) for _ in range(RUNS))
        for rows in BATCHES
    }
    return {
        "load_seconds": load_seconds,
        "first_token_seconds": first_token,
        "decode_tokens_per_second": decoded,
        "peak_memory_bytes": peak_memory(),
        "step_bytes": _step_bytes(model, prompt + new_tokens // 2),
        **_guess_ahead(model, prompt_lookup_num_tokens),
    }


def _rows(model: TextGenerator, count: int, prompt: int, new_tokens: int) -> list[TokenSequence]:
    """Return so many texts to continue, of random tokens, that never end early."""
    random = np.random.default_rng(0)
    prompts = random.integers(0, model.config.vocab_size, (count, prompt)).tolist()
    return [_text(model, ids, new_tokens, num_assistant_tokens=0) for ids in prompts]


def _text(model: TextGenerator, ids: list[int], new_tokens: int, **guess: Any) -> TokenSequence:
    options = model.resolve({"max_new_tokens": new_tokens, "eos_token_id": [], **guess})
    texts = Request(ids, options).texts(
        model.tokenizer, model.vocabulary, model.config.n_positions, 0
    )
    return texts[0]


def _run(model: TextGenerator, rows: list[TokenSequence]) -> list[TokenSequence]:
    scheduler = model.scheduler(len(rows))
    for row in rows:
        scheduler.submit(row)
    for _ in scheduler.run(bool):
        pass
    return rows


def _first_token(model: TextGenerator, prompt: int) -> float:
    (row,) = _run(model, _rows(model, 1, prompt, 1))
    return row.result().timings.time_to_first_token


def _decode(model: TextGenerator, count: int, prompt: int, new_tokens: int) -> float:
    """Return the new tokens a second of so many texts together, after the first ones."""
    rows = _run(model, _rows(model, count, prompt, new_tokens))
    slowest = max(row.result().timings.decode_seconds for row in rows)
    return count * (new_tokens - 1) / slowest


def _guess_ahead(model: TextGenerator, lookup: int | None) -> dict[str, float | None]:
    """Return the speed of a text that repeats itself, and the share of guesses that came true."""
    if lookup is None and model.assistant is None:
        return {"speculative_tokens_per_second": None, "accepted_share": None}
    size = max(1, min(PASSAGE, model.config.n_positions // (2 * TIMES)))
    passage = np.random.default_rng(0).integers(0, model.config.vocab_size, size).tolist()
    new_tokens = min(NEW_TOKENS, model.config.n_positions - TIMES * size)
    guess: dict[str, Any] = {}
    if lookup is not None:  # whatever the model would say: it is made to say the same again
        guess = {"prompt_lookup_num_tokens": lookup, "logits_processor": [_Repeat(size)]}
    timings = [
        _run(model, [_text(model, TIMES * passage, new_tokens, **guess)])[0].result().timings
        for _ in range(RUNS)
    ]
    guessed = sum(one.guessed_tokens for one in timings)
    accepted = sum(one.accepted_tokens for one in timings)
    return {
        "speculative_tokens_per_second": statistics.median(
            one.tokens_per_second or 0.0 for one in timings
        ),
        "accepted_share": accepted / guessed if guessed else None,
    }


class _Repeat:
    """Rules out every token but the one that came so many tokens before."""

    def __init__(self, period: int) -> None:
        self._period = period

    def __call__(self, ids: Ids, logits: Logits) -> Logits:
        logits[:] = -np.inf
        logits[ids[-self._period]] = 0.0
        return logits


def _step_bytes(model: TextGenerator, length: int) -> int:
    """Return what a step reads: the weights, and keys and values of `length` tokens."""
    decoder = model.new_decoder()
    decoder.reserve(length)
    cache = decoder.cache_bytes * length // decoder.cache_capacity
    return model.manifest.variant(model.variant).bytes + cache


def main() -> None:
    try:
        found = measure(**json.loads(sys.argv[1]))
    except PocketGPTError as error:
        found = {"error": str(error)}
    print(json.dumps(found))


if __name__ == "__main__":
    main()
