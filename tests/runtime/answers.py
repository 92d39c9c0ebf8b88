"""What the bundled checkpoint's variants say, to be compared between two places to run them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, cast

import numpy as np
from numpy.typing import NDArray

import pocketgpt
from pocketgpt.folder.onnxruntime_version import is_onnxruntime
from pocketgpt.folder.opening import CACHE_ONNXRUNTIME, KvCache

VARIANTS = ("fp32", "int8", "q8", "q4")
PROMPTS = (
    "Once upon a time, in a village by the sea, there lived an old man who",
    "The",
    "“Tomorrow,” she said, “the wind will turn, and then we\u2019ll see what the boats bring.” He",
)
STEPS = 24


class Answer(NamedTuple):
    """One prompt's greedy continuation: `token_ids [steps]`, each from `logits [steps, vocab]`."""

    token_ids: NDArray[np.int64]
    logits: NDArray[np.float32]


def caches() -> tuple[KvCache, ...]:
    """The kinds of cache that the installed ONNX Runtime has."""
    return ("float", "int8") if is_onnxruntime(CACHE_ONNXRUNTIME) else ("float",)


def file_of(folder: Path, variant: str, kv_cache: KvCache) -> Path:
    """Where a variant's answers are kept beside the model's folder."""
    return folder.parent / f"{folder.name}-{variant}-{kv_cache}.npz"


def greedy(model: pocketgpt.Model, prompt: str) -> list[int]:
    """The new ids of greedy search, whatever they are."""
    return model.generate(prompt, max_new_tokens=STEPS, eos_token_id=[]).token_ids


def logits_along(
    model: pocketgpt.Model, prompt: str, token_ids: Sequence[int]
) -> NDArray[np.float32]:
    """The logits `[tokens, vocab_size]` before each of `token_ids`."""
    decoder = model.new_decoder()
    rows = [decoder.prefill(model.tokenizer.encode(prompt)).copy()]
    rows += [decoder.step(token_id).copy() for token_id in token_ids[:-1]]
    return np.concatenate(rows)


def write_answers(folder: Path, variant: str, kv_cache: KvCache) -> None:
    """Write what a variant says here."""
    model = pocketgpt.load(folder, variant, kv_cache=kv_cache)
    token_ids = [greedy(model, prompt) for prompt in PROMPTS]
    logits = [logits_along(model, *pair) for pair in zip(PROMPTS, token_ids, strict=True)]
    np.savez(file_of(folder, variant, kv_cache), token_ids=token_ids, logits=logits)


def read_answers(folder: Path, variant: str, kv_cache: KvCache) -> list[Answer]:
    """Read what `write_answers` wrote, prompt by prompt."""
    with np.load(file_of(folder, variant, kv_cache)) as arrays:
        pairs = zip(arrays["token_ids"], arrays["logits"], strict=True)
        return [
            Answer(*cast(tuple[NDArray[np.int64], NDArray[np.float32]], pair)) for pair in pairs
        ]
