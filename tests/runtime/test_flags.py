"""The command line: a flag for every option, and what Ctrl-C leaves."""

from __future__ import annotations

import dataclasses
import json
import signal
from pathlib import Path
from typing import Any

import pytest
import typer

import pocketgpt
from pocketgpt import GenerationOptions
from pocketgpt.cli.app import app
from pocketgpt.cli.interrupt import cancel_on_interrupt
from pocketgpt.engine.decoder import Decoder

from ..conftest import Cli


def test_every_option_has_a_flag() -> None:
    options = {field.name for field in dataclasses.fields(GenerationOptions)}
    # The folder's tokenizer settles where a text begins; functions cannot be written as text.
    options -= {"bos_token_id", "logits_processor"}
    for verb in ("generate", "chat", "evaluate"):
        command: Any = typer.main.get_command(app)
        flags = {parameter.name: parameter for parameter in command.commands[verb].params}
        assert options <= set(flags)
        assert all(flags[name].help for name in options)


def test_flags_reach_the_library(cli: Cli, model: pocketgpt.Model, random_folder: Path) -> None:
    flags = {
        "logit_bias": (["63=-20", "28=1.5"], {63: -20.0, 28: 1.5}),
        "bad_words_ids": (["144", "143,212"], [[144], [143, 212]]),
        "suppress_tokens": (["154", "48"], [154, 48]),
        "eos_token_id": (["145", "17"], [145, 17]),
        "stop_strings": (["zz", "q!"], ["zz", "q!"]),
        "num_beams": (["3"], 3),
        "num_return_sequences": (["2"], 2),
        "early_stopping": (["true"], True),
        "length_penalty": (["0.5"], 0.5),
        "repetition_penalty": (["1.1"], 1.1),
        "no_repeat_ngram_size": (["2"], 2),
    }
    said = [
        part
        for name, (values, _) in flags.items()
        for value in values
        for part in (f"--{name.replace('_', '-')}", value)
    ]
    options: dict[str, Any] = {name: value for name, (_, value) in flags.items()}
    expected: Any = model.generate("A dog", **options)
    arguments = ["generate", random_folder, "A dog", "--variant", "fp32", *said]
    code, text, _ = cli(*arguments, "--json")
    assert code == 0
    assert [one["token_ids"] for one in json.loads(text)] == [r.token_ids for r in expected]
    _, text, _ = cli(*arguments)
    assert text == f"{expected[0].text}\n---\n{expected[1].text}\n"


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (["--logit-bias", "5"], "logit_bias should be ID=NUMBER"),
        (["--logit-bias", "a=b"], "logit_bias should be ID=NUMBER"),
        (["--bad-words-ids", "1;2"], "bad_words_ids should be ID,ID"),
        (["--logit-bias", "inf=1"], "logit_bias should be ID=NUMBER"),
        (["--logit-bias", "nan=1"], "logit_bias should be ID=NUMBER"),
        (["--logit-bias", "5.7=1"], "logit_bias should be ID=NUMBER"),
        (["--logit-bias", "5,6=1"], "logit_bias should be ID=NUMBER"),
        (["--logit-bias", "5=nan"], "logit_bias of token 5 should be"),
        (["--logit-bias", "5=1e400"], "logit_bias of token 5 should be"),
        (["--logit-bias", "9" * 30 + "=1"], "logit_bias has token id 999"),
        (["--bad-words-ids", "1e400"], "bad_words_ids should be ID,ID"),
        (["--bad-words-ids", "1.5"], "bad_words_ids should be ID,ID"),
        (["--bad-words-ids", "9" * 5000], "bad_words_ids should be ID,ID"),
        (["--bad-words-ids", ""], "bad_words_ids should be ID,ID"),
        (["--sequence-bias", "1,2"], "sequence_bias should be ID,ID,...=NUMBER"),
        (["--sequence-bias", "1,2=inf"], "a bias in sequence_bias should be"),
        (["--sequence-bias", "=1"], "sequence_bias should be ID,ID,...=NUMBER"),
        (["--exponential-decay-length-penalty", "5"], "penalty should be START,FACTOR"),
        (["--exponential-decay-length-penalty", "5,nan"], "the factor of exponential_decay"),
        (["--temperature", "nan"], "temperature should be above 0"),
        (["--temperature", "inf"], "temperature should be above 0"),
        (["--top-p", "1e400"], "top_p should be"),
        (["--max-time", "inf"], "max_time should be"),
        (["--eos-token-id", "9" * 30], "eos_token_id has token id 999"),
        (["--json-schema", "{"], "json_schema should be a JSON schema"),
        (["--json-schema", "@no-such-file"], "json_schema cannot be read from 'no-such-file'"),
        (["--regex", "a("], "regex cannot be followed"),
        (["--early-stopping", "maybe"], "early_stopping should be one of"),
        (["--num-beams", "2", "--logprobs", "1"], "logprobs"),
    ],
)
def test_bad_values_exit_with_2(cli: Cli, random_folder: Path, flags: list[str], says: str) -> None:
    code, text, errors = cli("generate", random_folder, "A", *flags)
    assert (code, text) == (2, "")
    assert says in errors
    assert len(errors.splitlines()) == 1


@pytest.mark.parametrize("json_flag", [[], ["--json"]])
def test_ctrl_c_ends_with_what_was_made(
    cli: Cli,
    model: pocketgpt.Model,
    random_folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    json_flag: list[str],
) -> None:
    options: dict[str, Any] = {"max_new_tokens": 30, "eos_token_id": [0]}
    made = model.generate("A dog", **options)
    step, steps = Decoder.step, 0

    def interrupted_step(self: Decoder, token_ids: Any) -> Any:
        nonlocal steps
        steps += 1
        if steps == 4:
            signal.raise_signal(signal.SIGINT)
        return step(self, token_ids)

    monkeypatch.setattr(Decoder, "step", interrupted_step)
    flags = ["--max-new-tokens", "30", "--eos-token-id", "0", *json_flag]
    code, text, errors = cli("generate", random_folder, "A dog", *flags)
    assert (code, errors, steps) == (130, "", 4)
    shown = json.loads(text)["text"] if json_flag else text[:-1]
    assert shown == model.tokenizer.decode(made.token_ids[:5])


def press_twice(pressed: list[bool]) -> None:
    with cancel_on_interrupt(lambda: pressed.append(True)) as interrupted:
        assert not interrupted()
        signal.raise_signal(signal.SIGINT)
        assert interrupted()
        signal.raise_signal(signal.SIGINT)


def test_a_second_ctrl_c_interrupts() -> None:
    pressed: list[bool] = []
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        press_twice(pressed)
    assert pressed == [True]
    assert signal.getsignal(signal.SIGINT) is before


def test_scoring_files(
    cli: Cli, model: pocketgpt.Model, random_folder: Path, tmp_path: Path
) -> None:
    for name in ("one", "two"):
        (tmp_path / name).write_text(f"{name} dog runs home. " * 20, "utf-8")
    arguments = ["score", random_folder, tmp_path / "one", tmp_path / "two", "--stride", "16"]
    code, text, _ = cli(*arguments, "--json")
    assert code == 0
    for found, name in zip(json.loads(text), ("one", "two"), strict=True):
        expected = model.score((tmp_path / name).read_text("utf-8"), stride=16)
        assert found["path"] == str(tmp_path / name)
        assert found["perplexity"] == pytest.approx(expected.perplexity)
    assert cli(*arguments)[1].count("dog") == 0
    assert cli("score", random_folder, tmp_path / "none")[0] == 2
