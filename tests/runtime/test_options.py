"""Generation options: what is refused, and by what name."""

from __future__ import annotations

import dataclasses
import doctest
from typing import Any, get_type_hints

import numpy as np
import pytest
from transformers import GenerationConfig

import pocketgpt
from pocketgpt import GenerationOptions, OptionError
from pocketgpt.generation.option_kinds import (
    Callables,
    Choice,
    Decay,
    Json,
    Kind,
    LongText,
    Number,
    SequenceBias,
    Switch,
    Text,
    Texts,
    TokenBias,
    TokenId,
    TokenIds,
    TokenSequences,
    Whole,
)
from pocketgpt.generation.option_types import GenerationOptionsDict
from pocketgpt.generation.options_page import with_table

from ..conftest import ROOT

NAN, INFINITY = float("nan"), float("inf")
FIELDS = {field.name: field for field in dataclasses.fields(GenerationOptions)}

# For each kind of value: what every option of that kind refuses, and what it takes. Bounds and
# choices are the declaration's; that the declarations are right, the tables below say.
ALWAYS_BAD: dict[type[Kind], list[Any]] = {
    Whole: [-2, 1.5, "5", True, [1], NAN],
    Number: [NAN, INFINITY, -INFINITY, 10**400, "0.9", True, [1.0]],
    Switch: [1, 0, "yes", None],
    Choice: [1, "always", "shift", None],
    TokenId: [-1, 1.5, "0", True],
    TokenIds: ["1", [-1], [0, None], [1.5], [True]],
    TokenSequences: [5, [[]], [1], ["a"], [[-1]]],
    TokenBias: [[1], "1", 5, {-1: 1}, {1.5: 1}, {1: NAN}, {1: 101}, {1: "a"}, {"a": 1}],
    SequenceBias: [5, "1", {(): 1}, {1: 1}, {(1,): NAN}, [[[1]]], [[[-1], 1]], [[1, 1.0]]],
    Decay: [5, "1,2", [1], [1, 2, 3], [-1, 1.1], [1, 0], [1, NAN], [1.5, 2]],
    Texts: [5, [5]],
    Text: [5, "", ["a"], "\ud800"],
    LongText: [5, ""],
    Json: [5, True, "{", [], "[]", {1: {2, 3}}, "1", "\ud800"],
    Callables: [5, [5], "abs"],
}
ALWAYS_GOOD: dict[type[Kind], list[Any]] = {
    Whole: [1, 10**6, 2**63],
    Number: [1, 1.0],
    Switch: [True, False],
    Choice: [],
    TokenId: [0, 5],
    TokenIds: [[0, 5], (3,), []],
    TokenSequences: [(), [[1], [2, 3]]],
    TokenBias: [{}, {3: -100, 4: 2.5}],
    SequenceBias: [{}, {(1, 2): 3.5, (4,): -1}],
    Decay: [(5, 1.1), (0, 0.5)],
    Texts: [(), ["a", "b"]],
    Text: ["a", "@a"],
    LongText: ["a"],
    Json: [],
    Callables: [(), [abs]],
}
BAD: dict[str, list[Any]] = {  # beyond what holds for the kind: bounds
    "max_new_tokens": [0, -1],
    "max_length": [0],
    "temperature": [0, 0.0, -0.1, -1],
    "top_k": [-1],
    "top_p": [0, -0.1, 1.1, 2],
    "seed": [-1],
    "min_new_tokens": [-1],
    "min_length": [-1],
    "min_p": [-0.1, 1.1],
    "typical_p": [0, 1.1],
    "xtc_probability": [-0.1, 1.1],
    "xtc_threshold": [0, 1.1],
    "repetition_penalty": [0, -1],
    "encoder_repetition_penalty": [0, -1],
    "presence_penalty": [-2.1, 2.1],
    "frequency_penalty": [-2.1, 2.1],
    "dry_multiplier": [-0.1],
    "dry_base": [0.9],
    "no_repeat_ngram_size": [-1],
    "max_time": [0, -1],
    "num_beams": [0, -1],
    "length_penalty": [-11, 11],
    "num_return_sequences": [0],
    "logprobs": [-1],
    "context_overflow": [True],
    "keep": [-1],
    "eos_token_id": [-1, 1.5, "0", True],
    "forced_eos_token_id": [-1, 1.5],
    "suppress_tokens": [5],
    "stop_strings": [[""]],
    "dry_sequence_breakers": ["a"],
}
GOOD: dict[str, list[Any]] = {
    "temperature": [1e-3, 100.0],
    "top_k": [0],
    "top_p": [1e-6, 0.5],
    "typical_p": [1e-6, 0.5],
    "seed": [None, 0],
    "min_p": [None, 0, 0.1],
    "repetition_penalty": [0.5, 1.3],
    "presence_penalty": [-2, 0, 2],
    "frequency_penalty": [-2, 0, 2],
    "dry_penalty_last_n": [-1, 0],
    "length_penalty": [-1, 0, 2.0],
    "early_stopping": [True, False, "never"],
    "context_overflow": ["stop", "reprefill"],
    "eos_token_id": [None, 0],
    "forced_eos_token_id": [None, 0],
    "stop_strings": ["end"],
    "max_time": [None, 0.5],
    "logprobs": [None, 0],
}
UNUSUAL = {"num_return_sequences": [10**6, 2**63]}  # which needs as many beams


def cases(always: dict[type[Kind], list[Any]], table: dict[str, list[Any]]) -> list[Any]:
    return [
        pytest.param(name, value, id=f"{name}={value!r}"[:60])
        for name, field in FIELDS.items()
        for value in [*always[type(field.metadata["kind"])], *table.get(name, [])]
        if value not in UNUSUAL.get(name, []) or always is ALWAYS_BAD
    ]


make: Any = GenerationOptions  # what a type checker would refuse


def frozen(value: Any) -> Any:
    """What options keep of a list."""
    return tuple(map(frozen, value)) if isinstance(value, (list, tuple)) else value


def test_declarations_and_tables_name_the_same_options() -> None:
    assert set(BAD) | set(GOOD) <= set(FIELDS)
    assert {type(field.metadata["kind"]) for field in FIELDS.values()} == set(ALWAYS_BAD)


@pytest.mark.parametrize(("name", "value"), cases(ALWAYS_BAD, BAD))
def test_bad_value_is_refused_by_name(tiny: pocketgpt.Model, name: str, value: Any) -> None:
    for refuse in (GenerationOptions, lambda **options: tiny.generate("A", **options)):
        with pytest.raises(OptionError, match=rf"\b{name}\b.* (should be|holds)") as caught:
            refuse(**{name: value})
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("name", "value"), cases(ALWAYS_GOOD, GOOD))
def test_good_value_is_taken(name: str, value: Any) -> None:
    assert getattr(GenerationOptions(**{name: value}), name) == frozen(value)


@pytest.mark.parametrize("name", sorted(FIELDS))
def test_none_is_the_default_where_the_default_is_nothing(name: str) -> None:
    if FIELDS[name].default in (None, (), {}):
        assert getattr(make(**{name: None}), name) == FIELDS[name].default
    else:
        with pytest.raises(OptionError, match=f"^{name} should be"):
            make(**{name: None})


def test_numpys_numbers_are_numbers() -> None:
    options = GenerationOptions(
        top_k=np.int64(5),  # type: ignore[arg-type]
        temperature=np.float32(0.5),  # type: ignore[arg-type]
        do_sample=np.bool_(True),  # type: ignore[arg-type]
        eos_token_id=[np.int32(3)],  # type: ignore[list-item]
        logit_bias={np.int64(7): np.float64(2)},  # type: ignore[dict-item]
    )
    assert options == GenerationOptions(
        top_k=5, temperature=0.5, do_sample=True, eos_token_id=(3,), logit_bias={7: 2.0}
    )
    kept = (options.top_k, options.temperature, options.do_sample, options.eos_token_ids[0])
    assert [type(value) for value in kept] == [int, float, bool, int]


def test_numpys_arrays_are_lists() -> None:
    options = GenerationOptions(
        suppress_tokens=np.array([5, 6]),  # type: ignore[arg-type]
        eos_token_id=np.array([3], np.int32),  # type: ignore[arg-type]
        bad_words_ids=np.array([[1, 2], [3, 4]]),  # type: ignore[arg-type]
        sequence_bias=[(np.array([1, 2]), np.float32(0.5))],
        stop_strings=np.array(["a", "b"]),  # type: ignore[arg-type]
    )
    assert options == GenerationOptions(
        suppress_tokens=(5, 6),
        eos_token_id=(3,),
        bad_words_ids=((1, 2), (3, 4)),
        sequence_bias={(1, 2): 0.5},
        stop_strings=("a", "b"),
    )
    assert all(type(token_id) is int for token_id in options.suppress_tokens)


@pytest.mark.parametrize("wrong", [np.array([0.5]), np.array([True]), np.array(["a"])])
def test_arrays_of_anything_else_are_refused(wrong: Any) -> None:
    with pytest.raises(OptionError, match="suppress_tokens should be a whole number"):
        GenerationOptions(suppress_tokens=wrong)


def test_what_the_caller_changes_later_changes_nothing_and_options_are_hashable() -> None:
    words, bias, ends, schema = [[1, 2]], {3: 1.0}, [4], {"type": "null"}
    given: Any = {
        "bad_words_ids": words,
        "logit_bias": bias,
        "eos_token_id": ends,
        "json_schema": schema,
        "sequence_bias": [[[1, 2], 3.0]],
        "stop_strings": ["a"],
    }
    options, same = GenerationOptions(**given), GenerationOptions(**given)
    words[0].append(9)
    words.append([7])
    bias[5] = 2.0
    ends.clear()
    schema["type"] = "array"
    assert options == same
    assert hash(options) == hash(same)
    assert options.bad_words_ids == ((1, 2),)
    assert options.sequence_bias == {(1, 2): 3.0}
    assert options.json_schema == '{"type": "null"}'
    assert options != GenerationOptions(**given)


def test_a_folders_json_is_read_as_transformers_writes_it() -> None:
    """Keys of JSON's objects are text, and transformers writes sequence_bias as a list."""
    config = {"logit_bias": {"5": 1.5}, "sequence_bias": [[[1, 2], -3.0]], "min_length": 0}
    options = GenerationOptions.resolve(config, {})
    assert options.logit_bias == {5: 1.5}
    assert options.sequence_bias == {(1, 2): -3.0}
    assert not GenerationOptions.resolve({"logits_processor": ["anything"]}, {}).logits_processor


def test_the_typed_dictionary_has_the_options_names_and_types() -> None:
    assert get_type_hints(GenerationOptionsDict) == get_type_hints(GenerationOptions)


def test_the_documents_table_is_the_declarations() -> None:
    """Else run `python -m pocketgpt.generation.options_page docs/options.md`."""
    page = (ROOT / "docs" / "options.md").read_text("utf-8")
    assert with_table(page) == page
    assert page.count("\n| `") == len(FIELDS)


def test_the_documents_examples_run(tiny: pocketgpt.Model) -> None:
    page = (ROOT / "docs" / "options.md").read_text("utf-8")
    examples = doctest.DocTestParser().get_doctest(page, {"model": tiny}, "options.md", None, 0)
    assert len(examples.examples) >= 6
    assert doctest.DocTestRunner().run(examples).failed == 0


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("bos_token_id", 10**6),
        ("eos_token_id", 10**6),
        ("eos_token_id", [0, 10**6]),
        ("forced_bos_token_id", 10**6),
        ("forced_eos_token_id", 10**6),
        ("suppress_tokens", [10**6]),
        ("bad_words_ids", [[0, 10**6]]),
        ("logit_bias", {10**6: 1}),
        ("sequence_bias", {(0, 10**6): 1}),
    ],
)
def test_token_ids_are_the_vocabularys(tiny: pocketgpt.Model, name: str, value: Any) -> None:
    size = tiny.config.vocab_size
    with pytest.raises(
        OptionError, match=f"^{name} has token id {10**6}, and the vocabulary has {size}$"
    ):
        tiny.generate("A", **{name: value})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"json_schema": {}, "regex": "a"}, "json_schema and regex do not go together"),
        ({"regex": "a", "forced_eos_token_id": 0}, "forced_eos_token_id would break regex"),
        ({"num_beams": 2, "xtc_probability": 0.5}, "xtc_probability is not there for beam"),
    ],
)
def test_what_does_not_go_together_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(OptionError, match=message):
        GenerationOptions(**options)


@pytest.mark.parametrize("name", ["temprature", "n", "max_tokens"])
def test_unknown_option_is_refused_by_name(tiny: pocketgpt.Model, name: str) -> None:
    options: dict[str, Any] = {name: 1}
    with pytest.raises(OptionError, match=f"unknown option {name}; there are .*temperature"):
        tiny.generate("A", **options)
    with pytest.raises(OptionError, match=f"unknown option {name}"):
        tiny.stream("A", **options)


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


def test_a_bad_default_of_the_folder_is_refused_by_its_file() -> None:
    folder = {"temperature": -1, "repetition_penalty": 1.5}
    says = "the folder's generation_config.json: temperature should be above 0.*give temperature"
    with pytest.raises(OptionError, match=says):
        GenerationOptions.resolve(folder, {"do_sample": True})
    given = {"do_sample": True, "temperature": 0.5}
    assert GenerationOptions.resolve(folder, given).temperature == 0.5
    with pytest.raises(OptionError, match=r"^temperature should be above 0"):
        GenerationOptions.resolve(folder, {"do_sample": True, "temperature": 0})


@pytest.mark.parametrize(
    "folder", [{"temperature": 0.0}, {"top_p": 0}, {"typical_p": 7}, {"length_penalty": 99}]
)
def test_a_bad_default_that_nothing_reads_is_passed_over(folder: dict[str, Any]) -> None:
    assert GenerationOptions.resolve(folder, {}) == GenerationOptions()


def test_two_defaults_of_the_folder_that_do_not_go_together_are_the_folders() -> None:
    says = r"generation_config\.json: num_return_sequences=3"
    with pytest.raises(OptionError, match=says):
        GenerationOptions.resolve({"num_return_sequences": 3}, {})
    several = {"num_return_sequences": 3, "do_sample": True}
    with pytest.raises(OptionError, match=says):
        GenerationOptions.resolve(several, {"do_sample": False})
    with pytest.raises(OptionError, match=r"^num_return_sequences=2"):
        GenerationOptions.resolve({"top_k": 4}, {"num_return_sequences": 2})


def test_options_are_frozen() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        GenerationOptions().top_k = 1  # type: ignore[misc]
