"""examples/cpp: its tokens are Python's."""

from __future__ import annotations

import subprocess

import pytest

import pocketgpt

from .conftest import FOLDER, PROMPTS, ROOT, Greedy

PROGRAM = ROOT / "build" / "cpp" / "greedy"
TOKENS = 40
GRAPHS = {
    "fp32": "model.onnx",
    "int8": "model_int8.onnx",
    "q8": "model_quantized.onnx",
    "q4": "model_q4.onnx",
}


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run([PROGRAM, *map(str, arguments)], capture_output=True, text=True)


@pytest.mark.parametrize("variant", GRAPHS)
def test_its_tokens_are_python_s(greedy: Greedy, variant: str) -> None:
    model = pocketgpt.load(FOLDER, "fp32")
    for prompt in PROMPTS:
        ids = model.tokenizer.encode(prompt)
        done = run(FOLDER / "onnx" / GRAPHS[variant], TOKENS, *ids)
        assert (done.returncode, done.stderr) == (0, "")
        assert [int(token) for token in done.stdout.split()] == greedy(
            variant, prompt, TOKENS
        ).token_ids


def test_what_it_cannot_do_it_says() -> None:
    assert run().returncode == 2
    missing = run(FOLDER / "none.onnx", 1, 1)
    assert missing.returncode == 1
    assert missing.stderr.startswith("greedy: ")
    assert "none.onnx" in missing.stderr
