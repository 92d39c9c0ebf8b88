"""Texts by a JSON schema, a regular expression or a grammar: all of it follows, on every path."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest

import pocketgpt
from pocketgpt import GenerationOptions, MissingExtraError, OptionError
from pocketgpt.generation.pipeline import Pipeline
from pocketgpt.generation.vocabulary import Vocabulary

PERSON: dict[str, Any] = {
    "type": "object",
    "properties": {"a": {"type": "integer", "minimum": 0, "maximum": 99}, "b": {"type": "boolean"}},
    "required": ["a", "b"],
    "additionalProperties": False,
}
SCHEMAS = 200


def random_schema(random: np.random.Generator, depth: int = 2) -> dict[str, Any]:
    """A small schema of any kind, so that its texts fit a small context."""
    simple: list[dict[str, Any]] = [
        {"type": "integer", "minimum": int(random.integers(-5, 5)), "maximum": 60},
        {"type": "number", "exclusiveMinimum": 0, "maximum": 9},
        {"type": "integer", "multipleOf": int(random.integers(2, 9)), "minimum": 0, "maximum": 90},
        {"type": "string", "maxLength": int(random.integers(0, 6))},
        {"type": "string", "minLength": 1, "maxLength": 3},
        {"type": "string", "pattern": "^[a-c]{1,3}(-[0-9])?$"},
        {"type": "string", "format": "date"},
        {"type": ["boolean", "null"]},
        {"enum": ["on", 3, None, {"x": [1]}, "“"]},
        {"const": {"k": [1.5, "é"]}},
        {"type": "null"},
    ]
    if depth == 0 or random.random() < 0.3:
        return simple[int(random.integers(len(simple)))]
    kind = int(random.integers(4))
    if kind == 0:
        few = int(random.integers(0, 3))
        items = random_schema(random, depth - 1)
        return {"type": "array", "items": items, "minItems": few, "maxItems": few + 1}
    if kind == 1:
        return {"anyOf": [random_schema(random, depth - 1) for _ in range(2)]}
    if kind == 2:
        first, second = (random_schema(random, depth - 1) for _ in range(2))
        return {"type": "array", "prefixItems": [first, second], "items": False, "minItems": 2}
    names = ["a", "b c", "é"][: int(random.integers(1, 4))]
    required = [name for name in names if random.random() < 0.7]
    properties = {name: random_schema(random, depth - 1) for name in names}
    closed = {"additionalProperties": False, "required": required}
    return {"type": "object", "properties": properties, **closed}


def assert_valid(text: str, schema: dict[str, Any]) -> None:
    jsonschema.Draft202012Validator(schema, format_checker=jsonschema.FormatChecker()).validate(
        json.loads(text)
    )


def test_json_that_ends_validates(model: pocketgpt.Model) -> None:
    """200 schemas, greedy and drawn, in batches; what was cut is known by its finish_reason."""
    random = np.random.default_rng(17)
    schemas = [random_schema(random) for _ in range(SCHEMAS)]
    options = [
        {"json_schema": schema, "do_sample": i % 3 > 0, "top_k": 0, "seed": i, "temperature": 0.7}
        for i, schema in enumerate(schemas)
    ]
    results = model.generate(["A dog"] * SCHEMAS, options=options, max_new_tokens=60)
    whole = 0
    for schema, result in zip(schemas, results, strict=True):
        assert result.finish_reason in ("stop", "eos", "length")
        if result.finish_reason != "length":
            assert_valid(result.text, schema)
            whole += 1
    assert whole > 0.8 * SCHEMAS


@pytest.mark.parametrize("variant", ["fp32", "int8", "q4"])
def test_every_variant_and_way_to_generate(tiny_folder: Path, variant: str) -> None:
    model = pocketgpt.load(tiny_folder, variant)
    options: dict[str, Any] = {"json_schema": PERSON, "max_new_tokens": 40}
    prompts = ["The ships", "A small boat, three nets", ""]
    batch = model.generate(prompts, **options)
    texts = [result.text for result in batch]
    for prompt in prompts[:1]:
        stream = model.stream(prompt, **options)
        texts.append("".join(stream))
        assert stream.result is not None
        assert stream.result.finish_reason == "stop"
    drawn: Any = model.generate("A", do_sample=True, num_return_sequences=4, seed=3, **options)
    texts += [result.text for result in drawn]
    for text in texts:
        assert_valid(text, PERSON)
    assert all(result.finish_reason == "stop" for result in [*batch, *drawn])


def test_a_batch_is_as_each_alone(model: pocketgpt.Model) -> None:
    options: list[dict[str, Any]] = [
        {"regex": "[0-9]{3}-[a-z]{2}"},
        {"max_new_tokens": 5},
        {"json_schema": PERSON},
        {"grammar": 'start: "<" /[a-z]{2,4}/ ">"'},
    ]
    together = model.generate(["A dog"] * 4, options=options, max_new_tokens=30)
    for own, result in zip(options, together, strict=True):
        assert model.generate("A dog", **{"max_new_tokens": 30, **own}).text == result.text
    assert re.fullmatch("[0-9]{3}-[a-z]{2}", together[0].text)
    assert re.fullmatch("<[a-z]{2,4}>", together[3].text)


def test_a_sessions_text_before_is_no_part_of_it(model: pocketgpt.Model) -> None:
    session = model.session()
    session.append("A dog [")
    for _ in range(2):
        result = session.generate(regex="[a-z]{3};", max_new_tokens=12)
        assert re.fullmatch("[a-z]{3};", result.text)
        assert result.finish_reason == "stop"
    assert re.fullmatch(r"A dog \[([a-z]{3};){2}", session.text)


@pytest.mark.parametrize("sampled", [False, True])
@pytest.mark.parametrize("early_stopping", [False, True, "never"])
def test_beams(model: pocketgpt.Model, sampled: bool, early_stopping: Any) -> None:
    for form in ("(dog|cat|bird)s?", "[a-c]{4}"):
        results: Any = model.generate(
            "A dog",
            num_beams=4,
            num_return_sequences=2,
            do_sample=sampled,
            early_stopping=early_stopping,
            seed=1,
            max_new_tokens=12,
            eos_token_id=0,
            regex=form,
        )
        for result in results:
            assert re.fullmatch(form, result.text)
            assert result.finish_reason in ("stop", "eos")
            assert result.score is not None
            assert np.isfinite(result.score)


def test_beams_find_the_likeliest_text(model: pocketgpt.Model) -> None:
    """Of the eight texts that "[ab]{3}" allows, by scoring all of them; each letter is a token."""
    letters = [model.tokenizer.encode(letter)[0] for letter in "ab"]
    prompt = model.tokenizer.encode("A dog")
    best, likeliest = -np.inf, ""
    for number in range(8):
        text = "".join("ab"[number >> place & 1] for place in (2, 1, 0))
        total, ids = 0.0, list(prompt)
        for letter in text:
            logits = model.new_decoder().prefill(ids)[0].astype(np.float64)
            token = letters["ab".index(letter)]
            total += logits[token] - np.log(np.exp(logits - logits.max()).sum()) - logits.max()
            ids.append(token)
        if total > best:
            best, likeliest = total, text
    allowed = [i for i in range(model.config.vocab_size) if i not in letters]
    result = model.generate(
        "A dog", num_beams=8, regex="[ab]{3}", suppress_tokens=allowed, max_new_tokens=9
    )
    assert result.text == likeliest


def test_a_text_that_may_go_on_may_end(model: pocketgpt.Model) -> None:
    options: dict[str, Any] = {"regex": "a+", "max_new_tokens": 12}
    ended = model.generate("A", eos_token_id=0, logit_bias={0: 100}, **options)
    assert ended.finish_reason == "eos"
    assert set(model.tokenizer.decode(ended.token_ids)) == {"a"}
    assert ended.token_ids[-1] == 0
    going_on = model.generate("A", eos_token_id=[], **options)
    assert (going_on.finish_reason, len(going_on.token_ids)) == ("length", 12)
    assert set(going_on.text) == {"a"}


def test_an_end_of_text_that_is_an_ordinary_token_is_no_part_of_the_text(
    model: pocketgpt.Model,
) -> None:
    """Else a letter that ends texts would leave a word half written."""
    ends = model.tokenizer.encode("b")
    options: dict[str, Any] = {"eos_token_id": ends, "logit_bias": {ends[0]: 100}}
    result = model.generate("A", regex="[ab]{6}", max_new_tokens=12, **options)
    assert (result.text, result.finish_reason) == ("aaaaaa", "stop")
    result = model.generate("A", regex="a+", max_new_tokens=4, **options)
    assert (result.text, result.finish_reason) == ("aaaa", "length")


def test_a_text_that_runs_out_of_its_length_is_cut(model: pocketgpt.Model) -> None:
    result = model.generate("A dog", json_schema=PERSON, max_new_tokens=3)
    assert result.finish_reason == "length"
    with pytest.raises(json.JSONDecodeError):
        json.loads(result.text)


def test_other_options_hold_too(model: pocketgpt.Model) -> None:
    seven = model.tokenizer.encode("7")[0]
    result = model.generate("A", regex="[0-9]{5}", suppress_tokens=[seven], max_new_tokens=9)
    assert re.fullmatch("[0-689]{5}", result.text)
    with pytest.raises(OptionError, match="rule out every token"):
        model.generate("A", regex="7", suppress_tokens=[seven])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"json_schema": {"type": "objekt"}}, "json_schema cannot be followed: .*objekt"),
        ({"json_schema": {"not": {}}}, "json_schema cannot be followed: Unimplemented"),
        ({"json_schema": {"minLength": 5, "maxLength": 2, "type": "string"}}, "cannot be followed"),
        ({"json_schema": "{"}, "json_schema should be a JSON schema"),
        ({"json_schema": '{"items":' * 400 + "{}" + "}" * 400}, "json_schema cannot be followed"),
        ({"json_schema": '{"const": "\\ud800"}'}, "json_schema cannot be followed"),
        ({"regex": "(?=a)b"}, "regex cannot be followed: .*look-around"),
        ({"json_schema": {"enum": []}}, "json_schema cannot be followed"),
        ({"regex": "a(b"}, "regex cannot be followed: .*unclosed group"),
        ({"grammar": "start: foo"}, "grammar cannot be followed: .*unknown name"),
        ({"grammar": "nonsense"}, "grammar cannot be followed"),
    ],
)
def test_what_cannot_be_followed_is_refused_at_the_call(
    model: pocketgpt.Model, options: dict[str, Any], message: str
) -> None:
    def from_session(prompt: str, **options: Any) -> object:
        return model.session().stream(**options)

    calls: list[Any] = [model.generate, model.stream, from_session]
    for call in calls:
        with pytest.raises(OptionError, match=message) as caught:
            call("A", **options)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("more", [-9, 0, 7])
def test_a_model_may_have_more_or_fewer_tokens_than_its_tokenizer(
    model: pocketgpt.Model, more: int
) -> None:
    size = model.tokenizer.vocab_size + more
    vocabulary = Vocabulary(model.tokenizer, size)
    options = GenerationOptions(regex="[0-9]+", eos_token_id=0)
    pipeline = Pipeline.build(options, [5], 9, vocabulary=vocabulary)
    digits = {model.tokenizer.encode(str(digit))[0] for digit in range(10)}
    for expected in (digits, digits | {0}):
        found = pipeline.constrain(np.zeros(size, np.float32))
        assert set(np.flatnonzero(np.isfinite(found)).tolist()) == expected
        pipeline.accept(min(digits))


def test_a_missing_package_is_one_line(
    random_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "llguidance", None)
    model = pocketgpt.load(random_folder, "fp32")
    with pytest.raises(MissingExtraError, match=r"pip install 'pocketgpt\[constraints\]'"):
        model.generate("A", regex="a")
    assert model.generate("A", max_new_tokens=1).token_ids
