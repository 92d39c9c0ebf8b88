"""/v1/completions: the answers are those of `generate`, in the form that OpenAI's API has."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

import pocketgpt

from ..conftest import SENTENCES
from .conftest import NAME, Client

PROMPT = "The lighthouse keeper counted"
GREEDY: dict[str, Any] = {"temperature": 0, "max_tokens": 12, "eos_token_id": []}


def stream(client: Client, path: str = "/v1/completions", **fields: Any) -> list[Any]:
    """The chunks of a stream, which has to end with [DONE]."""
    response = client.post(path, json={"stream": True, **fields})
    assert response.status_code == 200, response.text
    assert response.headers["content-type"].startswith("text/event-stream")
    lines = [line for line in response.text.split("\n\n") if line]
    assert all(line.startswith("data: ") for line in lines)
    assert lines[-1] == "data: [DONE]"
    return [json.loads(line.removeprefix("data: ")) for line in lines[:-1]]


def expected(tiny: pocketgpt.Model, prompt: str = PROMPT, **options: Any) -> Any:
    return tiny.generate(prompt, max_new_tokens=12, eos_token_id=[], **options)


def test_an_answer_has_the_apis_form(client: Client, tiny: pocketgpt.Model) -> None:
    prompt = SENTENCES[0]
    made = expected(tiny, prompt)
    answer = client.ask(model=NAME, prompt=prompt, **GREEDY)
    assert answer["id"].startswith("cmpl-")
    assert answer["object"] == "text_completion"
    assert answer["model"] == NAME
    assert answer["system_fingerprint"].startswith("fp_")
    choice = {"index": 0, "text": made.text, "logprobs": None, "finish_reason": "length"}
    assert answer["choices"] == [choice]
    count = len(tiny.tokenizer.encode(prompt))
    usage = answer["usage"]
    assert (usage["prompt_tokens"], usage["completion_tokens"]) == (count, 12)
    assert usage["total_tokens"] == count + 12
    again = client.ask(model=NAME, prompt=prompt, **GREEDY)
    assert again["choices"] == answer["choices"]
    assert again["usage"]["prompt_tokens_details"] == {"cached_tokens": count - 1}


def test_prompts_come_in_four_forms(client: Client, tiny: pocketgpt.Model) -> None:
    other = "A small boat"
    ids = [tiny.tokenizer.encode(text) for text in (PROMPT, other)]
    texts = [expected(tiny, text).text for text in (PROMPT, other)]
    for prompt, wanted in (
        (PROMPT, texts[:1]),
        ([PROMPT, other], texts),
        (ids[0], texts[:1]),
        (ids, texts),
    ):
        answer = client.ask(prompt=prompt, **GREEDY)
        assert [choice["text"] for choice in answer["choices"]] == wanted
        assert [choice["index"] for choice in answer["choices"]] == [*range(len(wanted))]


def test_without_temperature_texts_are_drawn_among_all_tokens(
    client: Client, tiny: pocketgpt.Model
) -> None:
    made = expected(tiny, do_sample=True, seed=5, top_k=0)
    fields: dict[str, Any] = {"prompt": PROMPT, "max_tokens": 12, "eos_token_id": [], "seed": 5}
    assert client.ask(**fields)["choices"][0]["text"] == made.text
    assert client.ask(**fields, temperature=None)["choices"][0]["text"] == made.text
    default = client.ask(prompt=PROMPT, seed=5, eos_token_id=[])
    assert default["usage"]["completion_tokens"] == 16


def test_the_draws_of_n_texts_are_those_of_generate(client: Client, tiny: pocketgpt.Model) -> None:
    made = expected(tiny, do_sample=True, seed=7, top_k=0, num_return_sequences=3)
    answer = client.ask(prompt=PROMPT, n=3, seed=7, max_tokens=12, eos_token_id=[])
    assert [choice["text"] for choice in answer["choices"]] == [one.text for one in made]
    greedy = client.ask(prompt=PROMPT, n=2, **GREEDY)
    assert greedy["choices"][0]["text"] == greedy["choices"][1]["text"]


def test_best_of_gives_the_likeliest(client: Client, tiny: pocketgpt.Model) -> None:
    made = expected(tiny, do_sample=True, seed=7, top_k=0, num_return_sequences=6, logprobs=0)
    by_mean = sorted(made, key=lambda one: -np.mean([step.logprob for step in one.logprobs]))
    answer = client.ask(prompt=PROMPT, n=2, best_of=6, seed=7, max_tokens=12, eos_token_id=[])
    assert [choice["text"] for choice in answer["choices"]] == [one.text for one in by_mean[:2]]
    assert answer["usage"]["completion_tokens"] == 6 * 12


@pytest.mark.parametrize("prompt", [PROMPT, "Größe 灯台守 💃🕺"])
def test_a_stream_gives_the_same_piece_by_piece(client: Client, prompt: str) -> None:
    fields: dict[str, Any] = {
        "prompt": [prompt, "A"],
        "n": 2,
        "seed": 3,
        "max_tokens": 20,
        "logprobs": 2,
    }
    whole = client.ask(**fields)
    chunks = stream(client, **fields, stream_options={"include_usage": True})
    usage = chunks.pop()
    assert usage["choices"] == []
    assert usage["usage"]["completion_tokens"] == whole["usage"]["completion_tokens"]
    assert all(chunk["usage"] is None for chunk in chunks)
    assert len({chunk["id"] for chunk in chunks}) == 1
    for choice in whole["choices"]:
        own = [chunk["choices"][0] for chunk in chunks]
        own = [one for one in own if one["index"] == choice["index"]]
        assert "".join(one["text"] for one in own) == choice["text"]
        assert [one["finish_reason"] for one in own[:-1]] == [None] * (len(own) - 1)
        assert own[-1]["finish_reason"] == choice["finish_reason"]
        for name, values in choice["logprobs"].items():
            lists = [one["logprobs"][name] for one in own if one["logprobs"]]
            told = [value for part in lists for value in part]
            if name == "top_logprobs":
                assert [[*top] for top in told] == [[*top] for top in values]
            else:
                assert told == (pytest.approx(values) if name == "token_logprobs" else values)


def test_log_probabilities_are_the_models(client: Client, tiny: pocketgpt.Model) -> None:
    made = expected(tiny, logprobs=3)
    found = client.ask(prompt=PROMPT, logprobs=3, **GREEDY)["choices"][0]["logprobs"]
    assert found["token_logprobs"] == pytest.approx([step.logprob for step in made.logprobs])
    assert len(found["tokens"]) == len(found["text_offset"]) == 12
    assert all(len(top) == 3 for top in found["top_logprobs"])
    assert found["text_offset"][0] == len(PROMPT)
    for token, top, value in zip(
        found["tokens"], found["top_logprobs"], found["token_logprobs"], strict=True
    ):
        assert max(top, key=lambda key: top[key]) == token
        assert top[token] == value


def test_an_echoed_prompt_is_scored(client: Client, tiny: pocketgpt.Model) -> None:
    """As lm-evaluation-harness asks: the prompt's own log-probabilities are those of `score`."""
    text = "The lighthouse keeper counted the ships as they came home."
    score = tiny.score(text)
    fields: dict[str, Any] = {"prompt": text, "echo": True, "logprobs": 1, "temperature": 0}
    for length in (0, 1):
        answer = client.ask(**fields, max_tokens=length)
        choice = answer["choices"][0]
        found = choice["logprobs"]
        tokens = len(score.log_probs) + 1
        assert found["token_logprobs"][0] is None
        assert found["top_logprobs"][0] is None
        assert found["token_logprobs"][1:tokens] == pytest.approx(
            score.log_probs.tolist(), abs=2e-5
        )
        assert len(found["tokens"]) == tokens + length
        assert "".join(found["tokens"][:tokens]) == text
        offsets = found["text_offset"][:tokens]
        assert offsets == [len("".join(found["tokens"][:place])) for place in range(tokens)]
        assert choice["text"].startswith(text)
        assert (choice["text"] == text) == (length == 0)
        assert answer["usage"]["completion_tokens"] == length
    chunks = stream(client, **fields, max_tokens=1, n=2)
    firsts = [chunk["choices"][0] for chunk in chunks if chunk["choices"][0]["text"] == text]
    assert {one["index"] for one in firsts} == {0, 1}
    assert all(len(one["logprobs"]["tokens"]) == tokens for one in firsts)


def test_a_prompt_may_fill_the_context(client: Client, tiny: pocketgpt.Model) -> None:
    ids = [5] * tiny.config.n_positions
    answer = client.ask(prompt=ids, echo=True, logprobs=0, max_tokens=0)
    assert len(answer["choices"][0]["logprobs"]["tokens"]) == len(ids)
    assert client.ask(prompt=ids, max_tokens=5)["usage"]["completion_tokens"] == 0
    error = client.refused(prompt=[*ids, 5])
    assert (error["param"], error["code"]) == ("prompt", "context_length_exceeded")


def test_stops_end_texts_and_are_cut(client: Client, tiny: pocketgpt.Model) -> None:
    whole = expected(tiny).text
    stop = whole[len(whole) // 2 :][:3]
    for stops in (stop, [stop, "never"]):
        answer = client.ask(prompt=PROMPT, stop=stops, logprobs=1, **GREEDY)
        choice = answer["choices"][0]
        assert choice["text"] == whole[: whole.index(stop)]
        assert choice["finish_reason"] == "stop"
        joined = "".join(choice["logprobs"]["tokens"])
        assert "bytes:" in joined or joined.startswith(choice["text"])
        chunks = stream(client, prompt=PROMPT, stop=stops, **GREEDY)
        assert "".join(chunk["choices"][0]["text"] for chunk in chunks) == choice["text"]


def test_our_own_options_go_by_their_names(client: Client, tiny: pocketgpt.Model) -> None:
    options: dict[str, Any] = {"num_beams": 3, "no_repeat_ngram_size": 2, "repetition_penalty": 1.3}
    made = expected(tiny, **options, num_return_sequences=2)
    fields: dict[str, Any] = {
        "prompt": PROMPT,
        "max_new_tokens": 12,
        "eos_token_id": [],
        "n": 2,
        **options,
    }
    answer = client.ask(**fields)
    assert [choice["text"] for choice in answer["choices"]] == [one.text for one in made]
    chunks = stream(client, **fields)
    for index, one in enumerate(made):
        own = [chunk["choices"][0] for chunk in chunks]
        assert "".join(c["text"] for c in own if c["index"] == index) == one.text


def test_penalties_and_biases_are_the_apis(client: Client, tiny: pocketgpt.Model) -> None:
    penalties: dict[str, Any] = {"presence_penalty": 1.5, "frequency_penalty": 0.5}
    made = expected(tiny, **penalties, logit_bias={7: 30.0})
    answer = client.ask(prompt=PROMPT, logit_bias={"7": 30}, **penalties, **GREEDY)
    assert answer["choices"][0]["text"] == made.text


def test_a_format_is_followed(client: Client) -> None:
    pytest.importorskip("llguidance")
    schema: dict[str, Any] = {
        "type": "object",
        "properties": {"age": {"type": "integer"}},
        "required": ["age"],
    }
    schema["additionalProperties"] = False
    for name in ("/v1/completions", "/v1/chat/completions"):
        chat = name.endswith("chat/completions")
        asked: dict[str, Any] = (
            {"messages": [{"role": "user", "content": "?"}]} if chat else {"prompt": "x"}
        )
        form = {"type": "json_schema", "json_schema": {"name": "age", "schema": schema}}
        answer = client.ask(name, **asked, response_format=form, max_tokens=60, seed=1, top_p=0.5)
        choice = answer["choices"][0]
        text = choice["message"]["content"] if chat else choice["text"]
        if choice["finish_reason"] == "stop":
            assert isinstance(json.loads(text)["age"], int)
        else:
            assert text.startswith("{")


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"prompt": 5}, "prompt"),
        ({"prompt": []}, "prompt"),
        ({"prompt": [1, "a"]}, "prompt"),
        ({"prompt": [True]}, "prompt"),
        ({"prompt": [-1]}, "prompt"),
        ({"prompt": [10**9]}, "prompt"),
        ({"prompt": "\ud800"}, "prompt"),
        ({"max_tokens": -1}, "max_tokens"),
        ({"max_tokens": 1.5}, "max_tokens"),
        ({"max_tokens": 3, "max_new_tokens": 3}, "max_tokens"),
        ({"n": 0}, "n"),
        ({"n": 129}, "n"),
        ({"n": 3, "best_of": 2}, "best_of"),
        ({"n": 1, "best_of": 2, "stream": True}, "best_of"),
        ({"prompt": ["a"] * 100, "n": 2}, "n"),
        ({"logprobs": 6}, "logprobs"),
        ({"stop": ["a", "b", "c", "d", "e"]}, "stop"),
        ({"stop": [""]}, "stop"),
        ({"stop": 5}, "stop"),
        ({"temperature": 2.1}, "temperature"),
        ({"temperature": True}, "temperature"),
        ({"top_p": -0.1}, "top_p"),
        ({"presence_penalty": 3}, "presence_penalty"),
        ({"logit_bias": {"x": 1}}, "logit_bias"),
        ({"logit_bias": {"99999999": 1}}, "logit_bias"),
        ({"seed": 1 << 70}, "seed"),
        ({"suffix": "the end"}, "suffix"),
        ({"stream": "yes"}, "stream"),
        ({"stream_options": {"include_usage": True}}, "stream_options"),
        ({"response_format": {"type": "yaml"}}, "response_format.type"),
        ({"response_format": {"type": "json_schema"}}, "response_format"),
        ({"num_beams": 17}, "num_beams"),
        ({"num_beams": 2, "n": 3}, "n"),
        ({"top_k": -1}, "top_k"),
        ({"logits_processor": ["os.system"]}, "logits_processor"),
        ({"num_return_sequences": 2}, "num_return_sequences"),
        ({"max_tokenz": 2}, "max_tokenz"),
    ],
    ids=str,
)
def test_wrong_requests_are_400_and_name_the_field(
    client: Client, fields: dict[str, Any], param: str
) -> None:
    error = client.refused(**{"prompt": "x", **fields})
    assert error["param"] == param
    assert error["type"] == "invalid_request_error"
    assert param.rpartition(".")[2] in error["message"] or param in ("n", "prompt")


def test_options_that_leave_no_token_fail_alone_and_in_time(
    client: Client, tiny: pocketgpt.Model
) -> None:
    everything = [*range(tiny.config.n_logits)]
    error = client.refused(prompt="x", suppress_tokens=everything)
    assert "rule out every token" in error["message"]
    assert client.refused(prompt="x", suppress_tokens=everything, stream=True)
    assert client.ask(prompt=PROMPT, **GREEDY)["choices"][0]["text"] == expected(tiny).text


def test_models_are_listed_and_found(client: Client) -> None:
    listed = client.get("/v1/models").json()
    assert listed["object"] == "list"
    first = listed["data"][0]
    assert {"id": NAME, "object": "model", "owned_by": "pocketgpt"}.items() <= first.items()
    assert client.get(f"/v1/models/{NAME}").json() == first
    assert client.get("/v1/models/none").status_code == 404
    error = client.refused(status=404, model="gpt-5", prompt="x")
    assert (error["code"], error["param"]) == ("model_not_found", "model")


def test_tokens_and_back(client: Client, tiny: pocketgpt.Model) -> None:
    text = "Größe 灯台守 💃"
    found = client.ask("/tokenize", prompt=text, return_token_strs=True)
    assert found["tokens"] == tiny.tokenizer.encode(text)
    assert found["count"] == len(found["tokens"]) == len(found["token_strs"])
    assert client.ask("/detokenize", tokens=found["tokens"]) == {"prompt": text}
    assert client.refused("/detokenize", tokens=[10**6])["param"] == "tokens"
    assert client.refused("/tokenize")["param"] == "prompt"


def test_chat_is_written_by_the_template(client: Client, tiny: pocketgpt.Model) -> None:
    messages = [
        {"role": "developer", "content": "Be brief."},
        {"role": "user", "content": [{"type": "text", "text": "Hi"}]},
    ]
    made = tiny.generate(
        "system: Be brief.\nuser: Hi\nassistant:", max_new_tokens=9, eos_token_id=[], logprobs=2
    )
    assert made.logprobs is not None
    asked: dict[str, Any] = {
        "messages": messages,
        "temperature": 0,
        "max_tokens": 9,
        "eos_token_id": [],
    }
    asked |= {"logprobs": True, "top_logprobs": 2}
    answer = client.ask("/v1/chat/completions", **asked)
    choice = answer["choices"][0]
    assert answer["object"] == "chat.completion"
    assert choice["message"]["content"] == made.text
    assert choice["message"]["role"] == "assistant"
    content = choice["logprobs"]["content"]
    assert [one["logprob"] for one in content] == pytest.approx([s.logprob for s in made.logprobs])
    raw = b"".join(bytes(one["bytes"] or []) for one in content)
    assert raw.decode(errors="replace") == made.text
    assert all(len(one["top_logprobs"]) == 2 for one in content)
    chunks = stream(client, "/v1/chat/completions", **asked, stream_options={"include_usage": True})
    assert chunks[0]["choices"][0]["delta"]["role"] == "assistant"
    usage = chunks.pop()["usage"]
    assert usage["completion_tokens"] == 9
    assert usage["prompt_tokens_details"] == {"cached_tokens": usage["prompt_tokens"] - 1}
    pieces = [chunk["choices"][0] for chunk in chunks]
    assert "".join(piece["delta"].get("content", "") for piece in pieces) == made.text
    told = [one for piece in pieces if piece["logprobs"] for one in piece["logprobs"]["content"]]
    assert [one["token"] for one in told] == [one["token"] for one in content]
    # Behind a prompt of which all but one token is remembered, which rounds otherwise.
    assert [one["logprob"] for one in told] == pytest.approx(
        [s.logprob for s in made.logprobs], abs=1e-5
    )
    assert pieces[-1]["finish_reason"] == "length"


@pytest.mark.parametrize(
    "fields",
    [
        {"messages": []},
        {"messages": "hi"},
        {"messages": [{"role": "robot", "content": "x"}]},
        {"messages": [{"role": "user", "content": [{"type": "image_url"}]}]},
        {"messages": [{"role": "user", "content": "x"}], "tools": [{}]},
        {"messages": [{"role": "user", "content": "x"}], "top_logprobs": 1},
        {"messages": [{"role": "user", "content": "x " * 2000}]},
        {"messages": [{"role": "user", "content": "x"}], "model": "bare"},
    ],
    ids=str,
)
def test_wrong_chats_are_400(client: Client, fields: dict[str, Any]) -> None:
    client.refused("/v1/chat/completions", **fields)
