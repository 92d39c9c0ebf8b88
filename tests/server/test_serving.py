"""What a server owes to many clients at once: bounds, keys, fairness, clients that go away."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from pathlib import Path
from typing import Any

import pytest

import pocketgpt
from pocketgpt.engine.decoder import Decoder
from pocketgpt.errors import InferenceError

from .conftest import NAME, Client, Start, client_of, service_of

LONG: dict[str, Any] = {"temperature": 0, "max_tokens": 90, "eos_token_id": []}


def slow(monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    original = Decoder.step

    def step(self: Decoder, token_ids: Any) -> Any:
        time.sleep(seconds)
        return original(self, token_ids)

    monkeypatch.setattr(Decoder, "step", step)


def idle(client: Any, timeout: float = 5.0) -> None:
    """Wait until no text is left: every slot is free."""
    deadline = time.monotonic() + timeout
    engine = client.service.engine if isinstance(client, Client) else client.engine
    while engine.unfinished and time.monotonic() < deadline:
        time.sleep(0.01)
    assert engine.unfinished == 0
    for lane in engine._lanes.values():
        assert lane.scheduler.room == lane._slots


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"", "no JSON"),
        (b"{", "no JSON"),
        (b"\xff\xfe", "no JSON"),
        (b"[1]", "object"),
        (b'{"prompt": NaN}', "no number"),
        (b'{"prompt": ' + b"[" * 100000, "nested"),
        (b'{"prompt": "x", "seed": ' + b"9" * 5000 + b"}", ""),
    ],
    ids=["empty", "cut", "no UTF-8", "list", "NaN", "deep", "huge number"],
)
def test_bodies_that_are_no_request_are_400(client: Client, body: bytes, said: str) -> None:
    response = client.post("/v1/completions", content=body)
    assert response.status_code == 400
    assert said in response.json()["error"]["message"]


def test_paths_and_methods_have_the_apis_errors(client: Client) -> None:
    for method, path, status in (("GET", "/v1/nothing", 404), ("GET", "/v1/completions", 405)):
        response = client.request(method, path)
        assert response.status_code == status
        assert response.json()["error"]["type"] == "invalid_request_error"


def test_a_large_body_is_refused(tiny: pocketgpt.Model, tiny_folder: Path) -> None:
    with client_of(service_of(tiny, tiny_folder, limits={"body": 1000})) as client:
        assert client.refused(status=413, prompt="x" * 1000)["code"] == "too_large"


def test_keys_are_asked_for(tiny: pocketgpt.Model, tiny_folder: Path) -> None:
    with client_of(service_of(tiny, tiny_folder, keys=("one", "two"))) as client:
        for header in (None, "Bearer three", "Basic one", "one", "Bearer", "Bearer onee"):
            headers = {"authorization": header} if header else {}
            for path in ("/v1/models", "/metrics"):
                response = client.get(path, headers=headers)
                assert response.status_code == 401
                assert response.headers["www-authenticate"] == "Bearer"
                assert response.json()["error"]["code"] == "invalid_api_key"
        for key in ("one", "two"):
            headers = {"authorization": f"Bearer {key}"}
            assert client.get("/v1/models", headers=headers).status_code == 200
        for path in ("/health", "/", "/openapi.json"):
            assert client.get(path).status_code == 200


def test_web_pages_of_strangers_may_not_ask(tiny: pocketgpt.Model, tiny_folder: Path) -> None:
    with client_of(service_of(tiny, tiny_folder, origins=("https://good.example",))) as client:
        allowed = client.get("/v1/models", headers={"origin": "https://good.example"})
        assert allowed.headers["access-control-allow-origin"] == "https://good.example"
        for headers in (
            {"origin": "https://evil.example"},
            {"origin": "null"},
            {"host": "evil.example"},
            {"host": "evil.example", "origin": "http://evil.example"},
        ):
            response = client.get("/v1/models", headers=headers)
            assert response.status_code == 403
            assert "access-control-allow-origin" not in response.headers
        assert client.get("/v1/models", headers={"origin": "http://127.0.0.1"}).status_code == 200
    with client_of(service_of(tiny, tiny_folder)) as client:
        response = client.options("/v1/completions", headers={"origin": "https://good.example"})
        assert "access-control-allow-origin" not in response.headers


def test_health_tells_loading_from_serving(tiny: pocketgpt.Model, tiny_folder: Path) -> None:
    service = service_of(tiny, tiny_folder)
    go, original = threading.Event(), service._load
    service._load = lambda settings: (go.wait(5), original(settings))[1]
    from starlette.testclient import TestClient

    from pocketgpt.server.app import build_app

    with TestClient(build_app(service), base_url="http://127.0.0.1") as client:
        assert client.get("/health").status_code == 503
        response = client.post("/v1/completions", json={"prompt": "x"})
        assert (response.status_code, "retry-after" in response.headers) == (503, True)
        go.set()
        service.wait()
        assert client.get("/health").json() == {"status": "ok"}


def test_a_full_queue_is_429(
    tiny: pocketgpt.Model, tiny_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow(monkeypatch, 0.01)
    limits = {"slots": 1, "queue": 1}
    with client_of(service_of(tiny, tiny_folder, limits=limits)) as client:
        threads = [
            threading.Thread(target=client.ask, kwargs={"prompt": "x", **LONG}) for _ in range(2)
        ]
        for thread in threads:
            thread.start()
        while client.service.engine.unfinished < 2:
            time.sleep(0.005)
        response = client.post("/v1/completions", json={"prompt": "x"})
        assert response.status_code == 429
        assert int(response.headers["retry-after"]) >= 1
        assert response.json()["error"]["code"] == "queue_full"
        for thread in threads:
            thread.join()
        assert client.ask(prompt="x", max_tokens=2)
        idle(client)


def test_requests_share_the_machine_and_answers_stay_the_same(
    client: Client, tiny: pocketgpt.Model
) -> None:
    prompts = [f"Number {i}: {'the ships ' * (i % 7)}" for i in range(40)]
    lengths = [1 + 7 * (i % 5) for i in range(40)]
    made: dict[int, str] = {}

    def ask(i: int) -> None:
        fields: dict[str, Any] = {"seed": i} if i % 2 else {"temperature": 0}
        answer = client.ask(prompt=prompts[i], max_tokens=lengths[i], **fields)
        made[i] = answer["choices"][0]["text"]

    threads = [threading.Thread(target=ask, args=(i,)) for i in range(40)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    idle(client)
    for i, prompt in enumerate(prompts):
        draw: dict[str, Any] = {"do_sample": True, "seed": i, "top_k": 0} if i % 2 else {}
        assert made[i] == tiny.generate(prompt, max_new_tokens=lengths[i], **draw).text


def test_one_request_of_many_texts_keeps_no_other_waiting(
    tiny: pocketgpt.Model, tiny_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow(monkeypatch, 0.002)
    with client_of(service_of(tiny, tiny_folder, limits={"slots": 2})) as client:
        ended: list[str] = []

        def ask(name: str, **fields: Any) -> None:
            client.ask(**fields)
            ended.append(name)

        many = {"prompt": ["a", "b", "c", "d", "e", "f", "g", "h"] * 4, **LONG, "max_tokens": 20}
        first = threading.Thread(target=ask, args=("many",), kwargs=many)
        first.start()
        while not client.service.engine.unfinished:
            time.sleep(0.001)
        second = threading.Thread(
            target=ask, args=("one",), kwargs={"prompt": "x", "max_tokens": 2}
        )
        second.start()
        for thread in (first, second):
            thread.join()
        assert ended == ["one", "many"]


@pytest.mark.parametrize("streamed", [True, False])
def test_a_client_that_goes_away_frees_its_slot(
    start: Start, monkeypatch: pytest.MonkeyPatch, streamed: bool
) -> None:
    steps: list[int] = []
    original = Decoder.step

    def step(self: Decoder, token_ids: Any) -> Any:
        steps.append(len(token_ids))
        time.sleep(0.02)
        return original(self, token_ids)

    monkeypatch.setattr(Decoder, "step", step)
    url, service = start(limits={"slots": 1})

    async def leave() -> None:
        host, port = url.removeprefix("http://").split(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        body = json.dumps({"prompt": "x", "stream": streamed, **LONG}).encode()
        head = f"POST /v1/completions HTTP/1.1\r\nhost: {host}\r\n"
        head += f"content-length: {len(body)}\r\n\r\n"
        writer.write(head.encode() + body)
        if streamed:
            while b"data: " not in await reader.readline():
                pass
        while not steps:
            await asyncio.sleep(0.01)
        assert service.engine.unfinished == 1
        writer.close()
        while service.engine.unfinished:
            await asyncio.sleep(0.005)

    asyncio.run(asyncio.wait_for(leave(), 20))
    assert len(steps) < 45  # the whole text would take 89
    idle(service)


def test_a_pass_that_fails_ends_what_ran_and_nothing_else(
    tiny: pocketgpt.Model, tiny_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original, calls = Decoder.step, iter(range(1000))

    def step(self: Decoder, token_ids: Any) -> Any:
        if next(calls) == 3:
            raise InferenceError("memory gave out")
        return original(self, token_ids)

    monkeypatch.setattr(Decoder, "step", step)
    with client_of(service_of(tiny, tiny_folder)) as client:
        error = client.refused(status=500, prompt="x", **LONG)
        assert (error["message"], error["type"]) == ("memory gave out", "server_error")
        assert client.ask(prompt="x", **LONG)["usage"]["completion_tokens"] == 90
        idle(client)


def test_an_error_within_a_stream_is_a_chunk(
    tiny: pocketgpt.Model, tiny_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original, calls = Decoder.step, iter(range(1000))

    def step(self: Decoder, token_ids: Any) -> Any:
        if next(calls) == 20:
            raise InferenceError("memory gave out")
        return original(self, token_ids)

    monkeypatch.setattr(Decoder, "step", step)
    with client_of(service_of(tiny, tiny_folder)) as client:
        response = client.post("/v1/completions", json={"prompt": "x", "stream": True, **LONG})
        *chunks, error, done, _ = response.text.split("\n\n")
        assert len(chunks) > 3
        assert json.loads(error.removeprefix("data: "))["error"]["message"] == "memory gave out"
        assert done == "data: [DONE]"


def test_a_stop_lets_running_requests_end_and_refuses_new_ones(
    tiny: pocketgpt.Model, tiny_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow(monkeypatch, 0.005)
    with client_of(service_of(tiny, tiny_folder)) as client:
        answers: list[Any] = []
        thread = threading.Thread(
            target=lambda: answers.append(client.ask(prompt="x", **LONG)), daemon=True
        )
        thread.start()
        while not client.service.engine.unfinished:
            time.sleep(0.001)
        client.service.drain()
        assert client.get("/health").json() == {"status": "stopping"}
        assert client.refused(status=503, prompt="x")["code"] == "stopping"
        thread.join(10)
        assert answers[0]["usage"]["completion_tokens"] == 90


def test_the_time_of_grace_is_bounded(
    tiny: pocketgpt.Model, tiny_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow(monkeypatch, 0.05)
    with client_of(service_of(tiny, tiny_folder, limits={"grace": 0.2})) as client:
        answers: list[Any] = []
        thread = threading.Thread(
            target=lambda: answers.append(client.refused(status=503, prompt="x", **LONG))
        )
        thread.start()
        while not client.service.engine.unfinished:
            time.sleep(0.001)
        client.service.drain()
        thread.join(3)
        assert answers[0]["code"] == "stopping"


def test_a_requests_time_is_bounded(
    tiny: pocketgpt.Model, tiny_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow(monkeypatch, 0.05)
    with client_of(service_of(tiny, tiny_folder, limits={"seconds": 0.3})) as client:
        answer = client.ask(prompt="x", **LONG)
        assert answer["choices"][0]["finish_reason"] == "length"
        assert answer["usage"]["completion_tokens"] < 20


def test_metrics_count_what_was_done(tiny: pocketgpt.Model, tiny_folder: Path) -> None:
    with client_of(service_of(tiny, tiny_folder)) as client:
        client.ask(prompt="The lighthouse", max_tokens=5, eos_token_id=[])
        client.refused(prompt=5)
        text = client.get("/metrics").text
    count = len(tiny.tokenizer.encode("The lighthouse"))
    for line in (
        'pocketgpt_requests_total{path="/v1/completions",status="200"} 1.0',
        'pocketgpt_requests_total{path="/v1/completions",status="400"} 1.0',
        f'pocketgpt_prompt_tokens_total{{model="{NAME}"}} {count}.0',
        f'pocketgpt_new_tokens_total{{model="{NAME}"}} 5.0',
        f'pocketgpt_texts_total{{model="{NAME}",reason="length"}} 1.0',
        f'pocketgpt_first_token_seconds_count{{model="{NAME}"}} 1.0',
        f'pocketgpt_running{{model="{NAME}"}} 0.0',
    ):
        assert line in text


def test_the_page_lets_nothing_else_in(client: Client) -> None:
    response = client.get("/")
    assert response.headers["content-type"].startswith("text/html")
    policy = response.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "http://" not in response.text.replace("http://www.w3.org/2000/svg", "")
    assert "https://" not in response.text
