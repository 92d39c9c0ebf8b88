"""examples/cpp: its tokens are Python's, on the same library; bad calls are one line."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import pocketgpt

from .conftest import FOLDER, PROMPTS, ROOT, Greedy

PROGRAM = ROOT / "build" / "cpp" / "make" / "complete"
TOKENS = 60


def run(*arguments: object, home: Path) -> tuple[int, str, str]:
    done = subprocess.run(
        [PROGRAM, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=60,
        env={"HOME": str(home)},
    )
    return done.returncode, done.stdout, done.stderr


@pytest.fixture(scope="module")
def tokenizer() -> pocketgpt.Model:
    return pocketgpt.load(FOLDER, "int8")


@pytest.mark.parametrize("variant", ["fp32", "int8", "q8", "q4"])
def test_its_tokens_are_python_s(
    tokenizer: pocketgpt.Model, greedy: Greedy, variant: str, tmp_path: Path
) -> None:
    """And it writes nothing at home: ONNX Runtime's telemetry is off."""
    for prompt in PROMPTS:
        ids = tokenizer.tokenizer.encode(prompt)
        code, out, err = run(FOLDER, variant, TOKENS, *ids, home=tmp_path)
        assert (code, err) == (0, "")
        assert list(map(int, out.split())) == greedy(variant, prompt, TOKENS).token_ids
    assert list(tmp_path.iterdir()) == []


def test_the_context_s_end_is_the_text_s(tmp_path: Path) -> None:
    """A prompt two tokens short of the context: two follow, and those are Python's."""
    model = pocketgpt.load(FOLDER, "fp32", kv_cache="float")
    prompt = (model.tokenizer.encode("The wolf went on. ") * 400)[: model.config.n_positions - 2]
    session = model.session()
    session.append(prompt)
    expected = session.generate(max_new_tokens=10).token_ids
    assert len(expected) == 2
    code, out, err = run(FOLDER, "fp32", 10, *prompt, home=tmp_path)
    assert (code, err) == (0, "")
    assert list(map(int, out.split())) == expected


def test_ids_py_makes_ids_of_text_and_text_of_ids(greedy: Greedy, tmp_path: Path) -> None:
    def ids(*arguments: object, stdin: str = "") -> str:
        script = str(ROOT / "examples" / "cpp" / "ids.py")
        command = [sys.executable, script, *map(str, arguments)]
        return subprocess.run(
            command, input=stdin, capture_output=True, encoding="utf-8", timeout=60, check=True
        ).stdout.removesuffix("\n")

    for prompt in PROMPTS:
        code, out, _ = run(
            FOLDER, "int8", 20, *ids(FOLDER, "encode", prompt).split(), home=tmp_path
        )
        assert code == 0
        assert ids(FOLDER, "decode", stdin=out) == greedy("int8", prompt, 20).text


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        ((), 2, "complete FOLDER VARIANT TOKENS ID..."),
        ((FOLDER, "q2", 5, 1), 1, "model_q2.onnx"),
        ((FOLDER, "int8", 5, *([1] * 2000)), 1, "the prompt should have 1 to "),
    ],
)
def test_bad_calls_are_one_line(
    arguments: tuple[object, ...], code: int, says: str, tmp_path: Path
) -> None:
    found, out, err = run(*arguments, home=tmp_path)
    assert (found, out, err.count("\n")) == (code, "", 1)
    assert says in err
