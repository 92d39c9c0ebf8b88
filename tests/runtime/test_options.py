"""Generation options: what is refused, and by what name."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from transformers import GenerationConfig

import pocketgpt
from pocketgpt import GenerationOptions, OptionError

NAN, INFINITY = float("nan"), float("inf")
BAD: dict[str, list[Any]] = {
    "max_new_tokens": [0, -1, 1.5, "5", True],
    "max_length": [0, -1, 20.0, "20", True],
    "do_sample": [1, 0, "yes", None],
    "temperature": [0, 0.0, -0.1, -1, NAN, INFINITY, "1", None, True],
    "top_k": [-1, 2.5, "5", None, True],
    "top_p": [0, -0.1, 1.1, 2, NAN, "0.9", None, True],
    "seed": [-1, 1.5, "7", True],
    "eos_token_id": [-1, 1.5, "0", True, [0, -1], [0, None], [1.5]],
    "bos_token_id": [-1, 1.5, "0", True],
    "min_new_tokens": [-1, 1.5, "1"],
    "min_p": [-0.1, 1.1, NAN, "0.1"],
    "typical_p": [0, 1.1, NAN, None],
    "repetition_penalty": [0, -1, NAN, None],
    "presence_penalty": [-2.1, 2.1, NAN, None],
    "frequency_penalty": [-2.1, 2.1, NAN, None],
    "logit_bias": [[1], "1", 5],
    "no_repeat_ngram_size": [-1, 1.5, None],
    "bad_words_ids": [5, [[]], [1]],
    "suppress_tokens": [5, "1", [-1], [1.5]],
    "forced_eos_token_id": [-1, 1.5, [0, None]],
    "stop_strings": [5, [5]],
    "max_time": [0, -1, NAN, "1"],
    "num_beams": [0, -1, 1.5, None],
    "length_penalty": [-11, 11, NAN, None],
    "early_stopping": [1, "always", None],
    "num_return_sequences": [0, 1.5, None],
    "logprobs": [-1, 1.5, True],
    "context_overflow": ["shift", None],
    "keep": [-1, 1.5, None],
}
GOOD: dict[str, list[Any]] = {
    "max_new_tokens": [None, 1, 10**6],
    "max_length": [None, 50],
    "do_sample": [True, False],
    "temperature": [1e-3, 1, 100.0],
    "top_k": [0, 1, 10**6],
    "top_p": [1e-6, 0.5, 1, 1.0],
    "seed": [None, 0, 2**63],
    "eos_token_id": [None, 0, [0, 5], (3,), []],
    "bos_token_id": [None, 0],
    "min_new_tokens": [None, 0, 5],
    "min_p": [None, 0, 0.1, 1],
    "typical_p": [1e-6, 0.5, 1],
    "repetition_penalty": [0.5, 1, 1.3],
    "presence_penalty": [-2, 0, 2],
    "frequency_penalty": [-2, 0, 2],
    "logit_bias": [{}, {3: -100, 4: 2.5}],
    "no_repeat_ngram_size": [0, 2],
    "bad_words_ids": [(), [[1], [2, 3]]],
    "suppress_tokens": [(), [1, 2]],
    "forced_eos_token_id": [None, 0, [0, 5]],
    "stop_strings": ["end", (), ["a", "b"]],
    "max_time": [None, 0.5],
    "num_beams": [1, 5],
    "length_penalty": [-1, 0, 2.0],
    "early_stopping": [True, False, "never"],
    "num_return_sequences": [1],
    "logprobs": [None, 0, 5],
    "context_overflow": ["stop", "reprefill"],
    "keep": [0, 4],
}


def cases(table: dict[str, list[Any]]) -> list[Any]:
    return [
        pytest.param(name, value, id=f"{name}={value!r}")
        for name, values in table.items()
        for value in values
    ]


@pytest.mark.parametrize(("name", "value"), cases(BAD))
def test_bad_value_is_refused_by_name(tiny: pocketgpt.Model, name: str, value: Any) -> None:
    for refuse in (GenerationOptions, lambda **options: tiny.generate("A", **options)):
        with pytest.raises(OptionError, match=f"^{name} should be") as caught:
            refuse(**{name: value})
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("name", "value"), cases(GOOD))
def test_good_value_is_taken(name: str, value: Any) -> None:
    assert getattr(GenerationOptions(**{name: value}), name) == value


def test_every_option_is_tested_above() -> None:
    names = {field.name for field in dataclasses.fields(GenerationOptions)}
    assert names == set(BAD) == set(GOOD)


@pytest.mark.parametrize("name", ["temprature", "n", "max_tokens"])
def test_unknown_option_is_refused_by_name(tiny: pocketgpt.Model, name: str) -> None:
    with pytest.raises(OptionError, match=f"unknown option {name}; there are .*temperature"):
        tiny.generate("A", **{name: 1})
    with pytest.raises(OptionError, match=f"unknown option {name}"):
        tiny.stream("A", **{name: 1})


def test_option_error_is_a_value_error() -> None:
    with pytest.raises(ValueError, match="top_p"):
        GenerationOptions(top_p=3)


@pytest.mark.parametrize("name", ["do_sample", "temperature", "top_k", "top_p"])
def test_defaults_are_transformers(name: str) -> None:
    assert getattr(GenerationOptions(), name) == getattr(GenerationConfig(), name)


def test_calls_go_before_the_folders_defaults() -> None:
    folder = {"temperature": 0.5, "top_k": None, "top_p": 0.9, "transformers_version": "4.57.6"}
    options = GenerationOptions.resolve(folder, {"top_p": 0.7})
    assert (options.temperature, options.top_k, options.top_p) == (0.5, 50, 0.7)


def test_a_bad_default_of_the_folder_is_refused_by_name() -> None:
    with pytest.raises(OptionError, match="temperature should be above 0"):
        GenerationOptions.resolve({"temperature": -1}, {})


def test_options_are_frozen() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        GenerationOptions().top_k = 1  # type: ignore[misc]
