"""`pocketgpt generate`: what it prints, and what bad calls get."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import pocketgpt

from ..conftest import Cli, Finished


def assert_error(done: Finished, code: int, says: str) -> None:
    """Refused in one line on standard error."""
    assert done.returncode == code
    assert done.stdout.strip() == ""
    lines = done.stderr.splitlines()
    assert [line for line in lines if line.startswith("error: ")] == lines
    assert len(lines) == 1
    assert says in lines[0]


@pytest.mark.parametrize("variant", ["fp32", "int8", "q4"])
def test_prints_the_text_alone(cli: Cli, tiny_folder: Path, variant: str) -> None:
    expected = pocketgpt.load(tiny_folder, variant).generate("The ships").text
    done = cli("generate", tiny_folder, "The ships", "--variant", variant)
    assert (done.returncode, done.stdout, done.stderr) == (0, expected + "\n", "")


def test_json_has_the_results_fields(cli: Cli, tiny_folder: Path) -> None:
    model = pocketgpt.load(tiny_folder, "fp32")
    expected = model.generate("灯台守は", max_new_tokens=9)
    arguments = ["--variant", "fp32", "--max-new-tokens", "9", "--json"]
    done = cli("generate", tiny_folder, "灯台守は", *arguments)
    assert (done.returncode, done.stderr) == (0, "")
    found = json.loads(done.stdout)
    timings = found.pop("timings")
    assert found == {
        "text": expected.text,
        "token_ids": expected.token_ids,
        "finish_reason": "length",
        "logprobs": None,
        "score": None,
        "reprefills": 0,
    }
    assert timings["prompt_tokens"] == len(model.tokenizer.encode("灯台守は"))
    assert timings["new_tokens"] == 9
    assert timings["time_to_first_token"] > 0
    assert timings["decode_seconds"] > 0


@pytest.mark.parametrize("argument", [["-"], []])
def test_prompt_from_standard_input(cli: Cli, tiny_folder: Path, argument: list[str]) -> None:
    prompt = "Größe 🐕\nand a second line\n"
    expected = pocketgpt.load(tiny_folder, "int8").generate(prompt).text
    done = cli("generate", tiny_folder, *argument, stdin=prompt.encode())
    assert (done.returncode, done.stdout) == (0, expected + "\n")


def test_standard_input_that_is_not_utf8(cli: Cli, tiny_folder: Path) -> None:
    done = cli("generate", tiny_folder, "-", stdin=b"caf\xe9")
    assert_error(done, 2, "the prompt on standard input is not UTF-8")


def test_sampling_options_reach_the_library(cli: Cli, tiny_folder: Path) -> None:
    options: dict[str, Any] = {
        "temperature": 1.7,
        "top_k": 40,
        "top_p": 0.9,
        "seed": 5,
        "max_length": 60,
    }
    flags = [f"--{name.replace('_', '-')}={value}" for name, value in options.items()]
    expected = pocketgpt.load(tiny_folder, "int8").generate("A", do_sample=True, **options)
    done = cli("generate", tiny_folder, "A", "--do-sample", "--json", *flags)
    assert json.loads(done.stdout)["token_ids"] == expected.token_ids


def test_options_that_change_nothing_are_named(cli: Cli, tiny_folder: Path) -> None:
    done = cli("generate", tiny_folder, "A", "--temperature", "0.5", "--seed", "3")
    assert done.returncode == 0
    assert "without --do-sample, seed, temperature change nothing" in done.stderr


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (["--temperature", "-0.5"], "temperature should be above 0, not -0.5"),
        (["--temperature", "0"], "temperature should be above 0"),
        (["--temperature", "nan"], "temperature should be above 0, not nan"),
        (["--top-p", "1.5"], "top_p should be above 0 and at most 1, not 1.5"),
        (["--top-p", "0"], "top_p should be above 0"),
        (["--top-k", "-1"], "top_k should be a whole number of at least 0, not -1"),
        (["--seed", "-1"], "seed should be a whole number"),
        (["--max-new-tokens", "0"], "max_new_tokens should be a whole number of at least 1"),
        (["--max-length", "1"], "max_length is 1 and the prompt alone has"),
        (["--threads", "0"], "threads should be a whole number of at least 1"),
    ],
    ids=str,
)
@pytest.mark.parametrize("json_flag", [[], ["--json"]])
def test_bad_values_exit_with_2(
    cli: Cli, tiny_folder: Path, flags: list[str], says: str, json_flag: list[str]
) -> None:
    assert_error(cli("generate", tiny_folder, "The ships", *flags, *json_flag), 2, says)


def test_prompt_longer_than_the_context_exits_with_2(cli: Cli, tiny_folder: Path) -> None:
    done = cli("generate", tiny_folder, "Q" * 97)
    assert_error(done, 2, "the prompt has 97 tokens, the model's context is 96; shorten it")


def test_lone_surrogate_exits_with_2(cli: Cli, tiny_folder: Path) -> None:
    """How Python hands over an argument that is no UTF-8."""
    assert_error(cli("generate", tiny_folder, "caf\udce9"), 2, "lone surrogate (U+DCE9)")


@pytest.mark.parametrize("flags", [["--temprature", "1"], ["--top-k", "many"], ["one", "two"]])
def test_calls_that_cannot_be_read_exit_with_2(
    cli: Cli, tiny_folder: Path, flags: list[str]
) -> None:
    done = cli("generate", tiny_folder, "A", *flags)
    assert done.returncode == 2
    assert done.stdout == ""
    assert "Traceback" not in done.stderr


def test_no_folder_exits_with_1(cli: Cli, tmp_path: Path) -> None:
    done = cli("generate", tmp_path / "none", "A")
    assert_error(done, 1, "is not a folder; 'pocketgpt export' makes model folders")


def test_folder_without_a_manifest_exits_with_1(cli: Cli, tiny_checkpoint: Path) -> None:
    assert_error(cli("generate", tiny_checkpoint, "A"), 1, "has no pocketgpt.json")


def test_variant_never_made_exits_with_2(cli: Cli, tiny_folder: Path) -> None:
    done = cli("generate", tiny_folder, "A", "--variant", "fp16")
    assert_error(done, 2, "no variant 'fp16' in this folder, which has fp32, int8, q4; make it")


def test_missing_file_exits_with_1(cli: Cli, tiny_copy: Path) -> None:
    (tiny_copy / "onnx" / "model_int8.onnx_data").unlink()
    assert_error(cli("generate", tiny_copy, "A"), 1, "model_int8.onnx_data is missing")


def test_altered_file_exits_with_1(cli: Cli, tiny_copy: Path) -> None:
    path = tiny_copy / "onnx" / "model_int8.onnx"
    path.write_bytes(path.read_bytes()[:-1])
    assert_error(cli("generate", tiny_copy, "A"), 1, "bytes, the manifest says")


def test_bad_provider_exits_with_1(cli: Cli, tiny_folder: Path) -> None:
    done = cli("generate", tiny_folder, "A", "--provider", "cuda")
    assert_error(done, 1, "provider 'cuda' is not in this ONNX Runtime")


def test_in_a_process_of_its_own(tiny_folder: Path) -> None:
    """Bytes in, bytes out, under an encoding that is not UTF-8 as well."""
    command = [sys.executable, "-c", "from pocketgpt.cli import main; main()"]
    flags = ["--variant", "fp32", "--json", "--max-new-tokens", "30"]
    prompt = "灯台守は 🐕"
    expected = pocketgpt.load(tiny_folder, "fp32").generate(prompt, max_new_tokens=30)
    done = subprocess.run(
        [*command, "generate", str(tiny_folder), "-", *flags],
        input=prompt.encode(),
        capture_output=True,
        check=True,
        env={"PYTHONUTF8": "1"},
    )
    assert done.stderr == b""
    assert json.loads(done.stdout.decode("utf-8"))["token_ids"] == expected.token_ids


def test_ends_quietly_when_its_reader_leaves(tiny_folder: Path) -> None:
    command = [sys.executable, "-c", "from pocketgpt.cli import main; main()"]
    with subprocess.Popen(
        [*command, "generate", str(tiny_folder), "A", "--max-length", "96"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert b"Traceback" not in process.stderr.read()
    assert process.returncode == 1
