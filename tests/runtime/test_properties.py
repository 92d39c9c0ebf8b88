"""What holds whatever the text, the options and the order of calls; the examples are Hypothesis's.

The same examples every time: an example that fails here fails everywhere.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

import pocketgpt
from pocketgpt import OptionError

from .options_offered import OFFERS, PROMPTS

fixed = settings(
    derandomize=True,
    database=None,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
few, some, many = (settings(fixed, max_examples=count) for count in (40, 60, 500))

PIECES = ["a", "the", "\ufffd", " ", "é", "q"]
drawn = {
    "do_sample": st.just(True),
    "seed": st.integers(0, 99),
    "temperature": st.sampled_from([0.3, 1.0, 2.5]),
}
shaping = {
    "max_new_tokens": st.integers(1, 16),
    "top_k": st.sampled_from([0, 3, 50]),
    "top_p": st.sampled_from([0.5, 0.9, 1.0]),
    "repetition_penalty": st.sampled_from([0.8, 1.2]),
    "no_repeat_ngram_size": st.integers(0, 3),
    "stop_strings": st.lists(st.sampled_from(PIECES), max_size=2),
    "eos_token_id": st.lists(st.integers(0, 300), max_size=3),
    "min_new_tokens": st.integers(0, 5),
    "presence_penalty": st.sampled_from([0.0, 1.5]),
}
greedy_options = st.fixed_dictionaries({}, optional=shaping)
sampled_options = st.fixed_dictionaries(drawn, optional=shaping)
one_texts_options = greedy_options | sampled_options
prompts = st.text(max_size=12) | st.sampled_from(PROMPTS)


def fits(model: pocketgpt.Model, prompt: str) -> bool:
    return len(model.tokenizer.encode(prompt)) <= model.config.n_positions


@some
@given(prompt=prompts, options=one_texts_options)
def test_a_stream_joined_is_the_text(
    model: pocketgpt.Model, prompt: str, options: dict[str, Any]
) -> None:
    assume(fits(model, prompt))
    stream = model.stream(prompt, **options)
    pieces = list(stream)
    expected = model.generate(prompt, **options)
    assert stream.result is not None
    assert "".join(pieces) == stream.result.text == expected.text
    assert stream.result.token_ids == expected.token_ids
    assert all(pieces)


@few
@given(
    rows=st.lists(st.tuples(prompts, one_texts_options), min_size=2, max_size=6),
    batch_size=st.integers(2, 6),
)
def test_a_batch_equals_each_alone(
    model: pocketgpt.Model, rows: list[tuple[str, dict[str, Any]]], batch_size: int
) -> None:
    assume(all(fits(model, prompt) for prompt, _ in rows))
    together = model.generate(
        [prompt for prompt, _ in rows], options=[own for _, own in rows], batch_size=batch_size
    )
    for (prompt, own), row in zip(rows, together, strict=True):
        alone = model.generate(prompt, **own)
        assert (row.token_ids, row.text) == (alone.token_ids, alone.text)
        assert row.finish_reason == alone.finish_reason


token_lists = st.lists(st.integers(0, 300), min_size=1, max_size=8)
operations = st.lists(
    st.one_of(
        st.tuples(st.just("append"), token_lists),
        st.tuples(st.just("generate"), one_texts_options),
        st.tuples(st.just("rewind"), st.integers(0, 12)),
        st.tuples(st.sampled_from(["fork", "save"]), st.none()),
    ),
    min_size=2,
    max_size=10,
)


@some
@given(calls=operations)
def test_a_session_always_goes_on_as_a_fresh_one_would(
    model: pocketgpt.Model, tmp_path_factory: Any, calls: list[tuple[str, Any]]
) -> None:
    """Whatever was appended, generated, rewound, forked, saved and restored before."""
    session = model.session()
    for call, argument in [*calls, ("generate", {"max_new_tokens": 4})]:
        length = len(session.token_ids)
        if call == "append" and length + len(argument) <= model.config.n_positions:
            session.append(argument)
        elif call == "rewind":
            session.rewind(min(argument, length))
        elif call == "fork":
            session = session.fork()
        elif call == "save":
            path: Path = tmp_path_factory.getbasetemp() / "property.session"
            session.save(path)
            session = model.restore(path)
        elif call == "generate":
            fresh = model.session()
            fresh.append(session.token_ids)
            expected, found = fresh.generate(**argument), session.generate(**argument)
            assert (found.token_ids, found.text) == (expected.token_ids, expected.text)
            assert session.token_ids == fresh.token_ids


wild = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=3),
    st.lists(st.integers(-2, 400) | st.text(max_size=2), max_size=3),
)
any_options = st.sets(st.sampled_from(sorted(OFFERS)), max_size=6).flatmap(
    lambda names: st.fixed_dictionaries({name: st.sampled_from(OFFERS[name]) for name in names})
)
surprises: st.SearchStrategy[dict[str, Any]] = st.just({}) | st.dictionaries(
    st.sampled_from([*OFFERS, "no_such_option"]), wild, max_size=1
)
TOO_MANY = {"num_beams": 8, "num_return_sequences": 8}  # more would only take memory


def outcome(model: pocketgpt.Model, texts: list[str], options: dict[str, Any]) -> str:
    """Generate; return the refusal, or nothing where it ran."""
    try:
        results = model.generate(texts, **options)
    except OptionError as error:
        return str(error)
    for result in results:
        assert result.finish_reason in ("eos", "length", "stop", "time")
        assert result.timings.new_tokens == len(result.token_ids)
        assert all(0 <= token_id < model.config.vocab_size for token_id in result.token_ids)
        assert result.score is None or np.isfinite(result.score)
    return ""


def test_any_options_run_or_are_refused(model: pocketgpt.Model) -> None:
    outcomes: list[str] = []

    @many
    @given(
        texts=st.lists(st.sampled_from(PROMPTS), min_size=1, max_size=3),
        options=any_options,
        surprise=surprises,
    )
    def check(texts: list[str], options: dict[str, Any], surprise: dict[str, Any]) -> None:
        chosen = {"max_new_tokens": 8, **options, **surprise}
        assume(not any(_above(chosen.get(name), most) for name, most in TOO_MANY.items()))
        outcomes.append(outcome(model, texts, chosen))

    check()
    refusals = [line for line in outcomes if line]
    assert not any("\n" in line for line in refusals)
    assert min(len(refusals), len(outcomes) - len(refusals)) > 30


def _above(value: object, most: int) -> bool:
    return isinstance(value, int) and value > most
