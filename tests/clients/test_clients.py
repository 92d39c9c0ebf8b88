"""The clients that people already have get what `generate` and `score` give."""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import pocketgpt

PROMPT = "Once upon a time"
TURNS = [{"role": "user", "content": PROMPT}]


@pytest.fixture
def made(model: pocketgpt.Model) -> Any:
    return model.generate(PROMPT, max_new_tokens=24, logprobs=2)


def test_openai(url: str, made: Any, model: pocketgpt.Model) -> None:
    import openai

    client = openai.OpenAI(base_url=f"{url}/v1", api_key="none")
    asked: Any = {"model": "tales", "prompt": PROMPT, "max_tokens": 24, "temperature": 0}
    answer = client.completions.create(**asked, logprobs=2)
    assert answer.choices[0].text == made.text
    logprobs = answer.choices[0].logprobs
    assert logprobs is not None
    expected = [step.logprob for step in made.logprobs]
    assert logprobs.token_logprobs == pytest.approx(expected, abs=1e-4)
    chunks = list(
        client.completions.create(**asked, stream=True, stream_options={"include_usage": True})
    )
    assert "".join(c.choices[0].text for c in chunks if c.choices) == made.text
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.completion_tokens == len(made.token_ids)
    assert [one.id for one in client.models.list()] == ["tales"]
    with pytest.raises(openai.BadRequestError, match="suffix"):
        client.completions.create(**asked, suffix="x")
    with pytest.raises(openai.NotFoundError):
        client.completions.create(model="gpt-5", prompt="x")
    chat: Any = {"model": "tales", "messages": TURNS, "temperature": 0, "max_tokens": 24}
    reply = model.generate(PROMPT + " ", max_new_tokens=24)
    said = client.chat.completions.create(**chat, logprobs=True, top_logprobs=3)
    assert said.choices[0].message.content == reply.text
    parts = client.chat.completions.create(**chat, stream=True)
    assert "".join(c.choices[0].delta.content or "" for c in parts) == reply.text


def test_openai_async(url: str, made: Any) -> None:
    import openai

    async def ask() -> list[str]:
        async with openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="none") as client:

            async def one() -> str:
                text = ""
                stream = await client.completions.create(
                    model="tales", prompt=PROMPT, max_tokens=24, temperature=0, stream=True
                )
                async for chunk in stream:
                    text += chunk.choices[0].text
                return text

            return await asyncio.gather(*(one() for _ in range(20)))

    assert set(asyncio.run(ask())) == {made.text}


def test_langchain(url: str, made: Any) -> None:
    from langchain_openai import ChatOpenAI, OpenAI

    options: Any = {"base_url": f"{url}/v1", "api_key": "none", "model": "tales"}
    options |= {"temperature": 0, "max_tokens": 24}
    text = OpenAI(**options)
    assert text.invoke(PROMPT) == made.text
    assert "".join(text.stream(PROMPT)) == made.text
    assert ChatOpenAI(**options).invoke("Hello").content


def test_llm(url: str, made: Any, tmp_path: Path) -> None:
    (tmp_path / "extra-openai-models.yaml").write_text(
        f"- model_id: tales\n  model_name: tales\n  api_base: {url}/v1\n  completion: true\n"
    )
    command = [sys.executable, "-m", "llm", "-m", "tales", "--key", "none", PROMPT]
    options = ["-o", "temperature", "0", "-o", "max_tokens", "24"]
    done = subprocess.run(
        [*command, *options],
        capture_output=True,
        text=True,
        env={"LLM_USER_PATH": str(tmp_path), "PATH": "/usr/bin:/bin"},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == made.text.strip()


def test_lm_evaluation_harness(url: str, model: pocketgpt.Model, folder: Path) -> None:
    pytest.importorskip("lm_eval")
    pytest.importorskip("transformers")
    from lm_eval.api.instance import Instance
    from lm_eval.models.openai_completions import LocalCompletionsAPI

    harness = LocalCompletionsAPI(
        base_url=f"{url}/v1/completions",
        model="tales",
        tokenizer=str(folder),
        tokenizer_backend="huggingface",
        max_length=model.config.n_positions,
    )
    text = (folder / "evaluation.txt").read_text("utf-8")[:600]
    cut = text.index(" ", 300)  # spaces that end a context are the continuation's
    request = Instance("loglikelihood", {}, (text[:cut], text[cut:]), 0)
    ((value, _),) = harness.loglikelihood([request])
    context = len(model.tokenizer.encode(text[:cut]))
    score = model.score(text)
    assert value == pytest.approx(float(score.log_probs[context - 1 :].sum()), abs=1e-2)


@pytest.mark.skipif(shutil.which("curl") is None, reason="there is no curl")
def test_curl(url: str, made: Any) -> None:
    body = {"prompt": PROMPT, "max_tokens": 24, "temperature": 0, "stream": True}
    done = subprocess.run(
        ["curl", "-sN", f"{url}/v1/completions", "-d", json.dumps(body)],
        capture_output=True,
        text=True,
        check=True,
    )
    *chunks, done_line = [line for line in done.stdout.split("\n\n") if line]
    assert done_line == "data: [DONE]"
    pieces = [json.loads(line.removeprefix("data: "))["choices"][0]["text"] for line in chunks]
    assert "".join(pieces) == made.text


def test_schemathesis_finds_no_5xx(url: str) -> None:
    flags = ["--checks", "not_a_server_error", "--max-examples", "60", "--seed", "1"]
    command = Path(sys.executable).with_name("schemathesis")
    done = subprocess.run(
        [str(command), "run", f"{url}/openapi.json", *flags],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-4000:]
