"""Values of every option, fitting and not, for tests that combine them."""

from __future__ import annotations

from typing import Any

OFFERS: dict[str, list[Any]] = {
    "max_new_tokens": [1, 3, 12, None],
    "max_length": [1, 9, 30],
    "min_new_tokens": [0, 2, 40],
    "do_sample": [True, True, False],
    "temperature": [0.01, 0.7, 50.0],
    "top_k": [0, 1, 7, 1000],
    "top_p": [0.01, 0.9, 1.0],
    "min_p": [0.0, 0.5, 1.0],
    "typical_p": [0.05, 0.9],
    "seed": [0, 7],
    "repetition_penalty": [0.5, 1.3],
    "presence_penalty": [-2.0, 1.0],
    "frequency_penalty": [-1.0, 2.0],
    "logit_bias": [{5: 100.0}, {63: -100, 0: 3.5}],
    "no_repeat_ngram_size": [1, 2, 5],
    "bad_words_ids": [[[63], [144, 63]], [[1, 2, 3]]],
    "suppress_tokens": [[63, 145], list(range(1, 320)), list(range(320))],
    "forced_eos_token_id": [7, [8, 9]],
    "eos_token_id": [None, 63, [63, 145, 28], list(range(60))],
    "stop_strings": ["a", ["the", "\ufffd"]],
    "max_time": [1e-9, 60.0],
    "num_beams": [1, 2, 5],
    "length_penalty": [-10.0, 0.0, 10.0],
    "early_stopping": [True, False, "never"],
    "num_return_sequences": [1, 2, 3],
    "logprobs": [0, 400],
    "context_overflow": ["stop", "reprefill"],
    "keep": [0, 31, 40],
}
PROMPTS = ["", "A dog", "z " * 31, "z " * 32]
