"""When a text ends, and that no piece of it is shown before it is final."""

from __future__ import annotations

import itertools
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

import pocketgpt
from pocketgpt import OptionError
from pocketgpt.engine.decoder import Decoder
from pocketgpt.generation.processors import log_softmax
from pocketgpt.text.stop_filter import StopFilter

PROMPT = "The quick brown fox"


def cut(text: str, stops: list[str]) -> str:
    """The text before the stop string that is whole first; of those, the longest."""
    for end in range(len(text) + 1):
        found = [stop for stop in stops if text[:end].endswith(stop)]
        if found:
            return text[: end - max(map(len, found))]
    return text


def test_stop_filter_equals_a_search_in_the_whole_text() -> None:
    random = np.random.default_rng(0)
    for _ in range(2000):
        text = "".join(random.choice(list("ab"), random.integers(0, 12)))
        stops = [
            "".join(random.choice(list("ab"), random.integers(1, 5)))
            for _ in range(random.integers(1, 4))
        ]
        watching, shown, rest = StopFilter(stops), "", text
        while rest and not watching.found:
            size = int(random.integers(1, 4))
            shown += watching.push(rest[:size])
            rest = rest[size:]
            # What is shown is final: it begins every text that may still come of it.
            assert cut(text, stops).startswith(shown)
        if not watching.found:
            shown += watching.finish()
        assert shown == cut(text, stops)
        assert watching.found == any(stop in text for stop in stops)


def not_ascii(model: pocketgpt.Model) -> list[int]:
    """The tokens that hold a part of a character: alone, their text is not what they become."""
    vocabulary = range(model.config.vocab_size)
    return [i for i in vocabulary if not model.tokenizer.token_bytes(i).isascii()]


def test_a_stop_string_is_cut_from_the_text_and_kept_in_the_ids(model: pocketgpt.Model) -> None:
    options: dict[str, Any] = {
        "max_new_tokens": 40,
        "eos_token_id": [],
        "suppress_tokens": not_ascii(model),
    }
    whole = model.generate(PROMPT, **options)
    for start, length in itertools.product((1, 4, 9, 20), (1, 3, 6)):
        stop = whole.text[start : start + length]
        stream = model.stream(PROMPT, stop_strings=stop, **options)
        pieces = list(stream)
        result = stream.result
        assert result is not None
        assert "".join(pieces) == result.text == whole.text[: whole.text.index(stop)]
        assert result.finish_reason == "stop"
        assert result.token_ids == whole.token_ids[: len(result.token_ids)]
        assert stop in model.tokenizer.decode(result.token_ids)
        assert stop not in model.tokenizer.decode(result.token_ids[:-1])


def test_a_stop_string_that_never_comes_changes_nothing(model: pocketgpt.Model) -> None:
    plain = model.generate(PROMPT, max_new_tokens=20)
    stops = [plain.text[-3:] + "!!", "\x00"]
    held = model.generate(PROMPT, max_new_tokens=20, stop_strings=stops)
    assert (held.text, held.finish_reason) == (plain.text, plain.finish_reason)


def test_pieces_joined_are_the_text_whatever_the_tokens(model: pocketgpt.Model) -> None:
    for seed in range(30):
        options: dict[str, Any] = {"do_sample": True, "seed": seed, "temperature": 3.0, "top_k": 0}
        stream = model.stream("é", max_new_tokens=25, **options)
        pieces = list(stream)
        assert stream.result is not None
        assert "".join(pieces) == stream.result.text
        assert stream.result.text == model.tokenizer.decode(stream.result.token_ids)
        assert all(pieces)


def test_max_time_ends_a_text_after_the_token_in_hand(model: pocketgpt.Model) -> None:
    result = model.generate(PROMPT, max_new_tokens=40, max_time=1e-9, eos_token_id=[])
    assert (result.finish_reason, len(result.token_ids)) == ("time", 1)
    patient = model.generate(PROMPT, max_new_tokens=4, max_time=1e9, eos_token_id=[])
    assert patient.finish_reason == "length"


def test_a_cancelled_prefill_stops_between_chunks(
    model: pocketgpt.Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pocketgpt.engine.decoder.PREFILL_CHUNK", 4)
    session = model.session()
    session.append(list(range(12)))
    stream = session.stream(max_new_tokens=3)
    original = Decoder.feed

    def feed(self: Decoder, token_ids: list[int], slot: int = 0) -> None:
        stream.cancel()
        original(self, token_ids, slot)

    monkeypatch.setattr(Decoder, "feed", feed)
    assert list(stream) == []
    assert stream.result is not None
    assert stream.result.finish_reason == "cancelled"
    assert session.evaluated_tokens == 4


def test_eight_threads_share_a_model(model: pocketgpt.Model) -> None:
    calls: list[dict[str, Any]] = [
        {"prompt": f"{letter} fox", "max_new_tokens": 15, "seed": n, "do_sample": n % 2 == 1}
        for n, letter in enumerate("abcdefgh" * 3)
    ]
    expected = [model.generate(**call).token_ids for call in calls]
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda call: model.generate(**call), calls))
    assert [result.token_ids for result in made] == expected


def test_logprobs_are_the_models_own(model: pocketgpt.Model) -> None:
    options: dict[str, Any] = {
        "do_sample": True,
        "seed": 4,
        "temperature": 2.0,
        "repetition_penalty": 1.4,
    }
    result = model.generate(PROMPT, max_new_tokens=8, logprobs=3, **options)
    assert result.token_ids == model.generate(PROMPT, max_new_tokens=8, **options).token_ids
    ids = model.tokenizer.encode(PROMPT)
    assert result.logprobs is not None
    assert len(result.logprobs) == len(result.token_ids)
    for step, token_id in zip(result.logprobs, result.token_ids, strict=True):
        exact = log_softmax(model.new_decoder().prefill(ids)[0])
        assert step.token_id == token_id
        assert step.logprob == pytest.approx(float(exact[token_id]), abs=1e-4)
        assert [i for i, _ in step.top] == np.argsort(-exact)[:3].tolist()
        np.testing.assert_allclose([p for _, p in step.top], np.sort(exact)[::-1][:3], atol=1e-4)
        ids.append(token_id)
    assert model.generate(PROMPT, max_new_tokens=2).logprobs is None
    chosen_only = model.generate(PROMPT, max_new_tokens=2, logprobs=0).logprobs
    assert chosen_only is not None
    assert all(step.top == [] for step in chosen_only)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"stop_strings": ["a", ""]}, "stop_strings holds an empty"),
        ({"stop_strings": 7}, "stop_strings should be"),
        ({"max_time": 0}, "max_time should be above 0"),
        ({"logprobs": -1}, "logprobs should be"),
        ({"min_p": 1.5}, "min_p should be at least 0 and at most 1"),
        ({"presence_penalty": 3}, "presence_penalty should be"),
        ({"logit_bias": {5: 101}}, "logit_bias of token 5"),
        ({"logit_bias": [5]}, "logit_bias should be a map"),
        ({"bad_words_ids": [[]]}, "bad_words_ids should be"),
        ({"bad_words_ids": [["a"]]}, "bad_words_ids should be a whole"),
        ({"eos_token_id": [1, "x"]}, "eos_token_id should be a whole"),
        ({"suppress_tokens": "abc"}, "suppress_tokens should be"),
        ({"context_overflow": "shift"}, "context_overflow should be one of"),
        ({"do_sample": 1}, "do_sample should be one of"),
        ({"suppress_tokens": list(range(300))}, "rule out every token"),
    ],
)
def test_bad_values_are_refused_by_name(
    model: pocketgpt.Model, options: dict[str, Any], message: str
) -> None:
    if "rule out" in message:
        options = {"suppress_tokens": list(range(model.config.vocab_size))}
    with pytest.raises(OptionError, match=message):
        model.generate(PROMPT, **options)
