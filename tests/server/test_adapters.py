"""LoRA adapters are models of names of their own, which share the weights."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

import pocketgpt
from pocketgpt.server.service import Service
from pocketgpt.server.settings import Limits, ModelSpec, Settings

from ..conftest import Cli
from .conftest import HOSTS, Client, client_of

PROMPTS = ["The lighthouse keeper", "灯台守は", "We danced 💃🕺", "Le café"]
NEW: dict[str, Any] = {"max_tokens": 16, "temperature": 0, "eos_token_id": []}


@pytest.fixture(scope="module")
def client(adapter_folder: Path, adapters: dict[str, Path]) -> Iterator[Client]:
    """A server of one model and its two adapters, loaded as `pocketgpt serve` loads them."""
    spec = ModelSpec("base", adapter_folder, {"variant": "fp32", "threads": 1}, adapters)
    with client_of(Service(Settings((spec,), Limits(), hosts=HOSTS))) as client:
        yield client


@pytest.fixture(scope="module")
def alone(adapter_folder: Path, adapters: dict[str, Path]) -> dict[str, list[str]]:
    """Each name's texts as `generate` gives them, one at a time."""
    model = pocketgpt.load(adapter_folder, "fp32", adapters=adapters)
    return {
        name or "base": [
            model.generate(prompt, adapter=name, max_new_tokens=16, eos_token_id=[]).text
            for prompt in PROMPTS
        ]
        for name in (None, *adapters)
    }


def test_they_are_listed_behind_their_model(client: Client) -> None:
    listed = client.get("/v1/models").json()["data"]
    assert [one["id"] for one in listed] == ["base", "first", "second"]


def test_each_name_answers_by_its_own_adapter(client: Client, alone: dict[str, list[str]]) -> None:
    """All at once, so that their passes take turns; the answers differ between the names."""
    assert len({tuple(texts) for texts in alone.values()}) == 3
    calls = [(name, place) for place in range(len(PROMPTS)) for name in alone]

    def ask(call: tuple[str, int]) -> str:
        answer = client.ask(model=call[0], prompt=PROMPTS[call[1]], **NEW)
        assert answer["model"] == call[0]
        return str(answer["choices"][0]["text"])

    with ThreadPoolExecutor(len(calls)) as pool:
        answers = list(pool.map(ask, calls))
    assert answers == [alone[name][place] for name, place in calls]


def test_a_text_is_not_continued_from_another_names_cache(
    client: Client, alone: dict[str, list[str]]
) -> None:
    """The prefix cache holds keys and values, which an adapter changes."""
    for name in ("base", "first", "base", "second", "first"):
        answer = client.ask(model=name, prompt=PROMPTS[0], **NEW)
        assert answer["choices"][0]["text"] == alone[name][0]


def test_an_unknown_name_is_404(client: Client) -> None:
    error = client.refused(status=404, model="third", prompt="A")
    assert error["code"] == "model_not_found"
    assert "base, first, second" in error["message"]


def test_an_adapter_that_does_not_fit_is_one_line(cli: Cli, tiny_folder: Path) -> None:
    code, _, errors = cli("serve", tiny_folder, "--adapter", f"first={tiny_folder}", "--port", 0)
    assert code == 2
    assert [line for line in errors.splitlines() if "adapter" in line]
    assert "Traceback" not in errors
