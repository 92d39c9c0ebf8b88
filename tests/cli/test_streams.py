"""Streams and files as the system hands them over: closed, full, folders, pipes, nonsense."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import pocketgpt

from ..conftest import Cli

COMMAND = [sys.executable, "-m", "pocketgpt"]
POSIX = pytest.mark.skipif(os.name == "nt", reason="a POSIX shell's redirections")


def shell(*arguments: object, redirected: str) -> subprocess.CompletedProcess[str]:
    """Run `python -m pocketgpt` in a process of its own, its streams as a shell redirects them."""
    command = [*COMMAND, *map(str, arguments)]
    return subprocess.run(
        ["sh", "-c", f'exec "$@" {redirected}', "sh", *command],
        capture_output=True,
        encoding="utf-8",
        stdin=subprocess.DEVNULL,
    )


def test_python_m_pocketgpt() -> None:
    done = subprocess.run([*COMMAND, "--version"], capture_output=True, encoding="utf-8")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"pocketgpt {pocketgpt.__version__}\n"


@POSIX
@pytest.mark.parametrize(
    ("arguments", "redirected", "code", "says"),
    [
        (["generate", "FOLDER"], "<&-", 2, "standard input is closed"),
        (["score", "FOLDER", "-"], "<&-", 2, "standard input is closed"),
        (["chat", "FOLDER"], "<&-", 2, "standard input is closed"),
        (["generate", "FOLDER", "A"], ">&-", 1, "standard output is closed"),
        (["inspect", "FOLDER", "--json"], ">&-", 1, "standard output is closed"),
        (["generate", "FOLDER", "A"], ">/dev/full", 1, "No space left"),
        (["generate", "FOLDER", "A", "--json"], ">/dev/full", 1, "No space left"),
        (["inspect", "FOLDER", "--json"], ">/dev/full", 1, "No space left"),
        (["inspect", "FOLDER"], ">/dev/full", 1, "No space left"),
        (["--version"], ">/dev/full", 1, "No space left"),
        (["generate", "FOLDER", "A"], "2>&-", 0, ""),
        (["generate", "NOWHERE", "A"], "2>&-", 1, ""),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else str(value),
)
def test_streams_that_are_closed_or_full(
    tiny_folder: Path, arguments: list[str], redirected: str, code: int, says: str
) -> None:
    given = [tiny_folder if part == "FOLDER" else part for part in arguments]
    done = shell(*given, redirected=redirected)
    assert done.returncode == code
    assert says in done.stderr
    assert len(done.stderr.split("error: ")) == 1 + bool(says)
    assert "Traceback" not in done.stderr
    assert "error: " not in done.stdout


def test_an_interrupt_outside_a_text_exits_with_130(
    cli: Cli, tiny_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("pocketgpt.cli.loading.load", interrupted)
    assert cli("score", tiny_folder, tiny_folder / "evaluation.txt") == (130, "", "")


def test_one_bad_file_costs_no_other_its_figures(
    cli: Cli, tiny_folder: Path, tmp_path: Path
) -> None:
    text = (tiny_folder / "evaluation.txt").read_text("utf-8")
    (tmp_path / "good").write_text(text, "utf-8")
    (tmp_path / "empty").touch()
    (tmp_path / "latin").write_bytes(text[:200].encode("utf-8") + b"caf\xe9 noir")
    names = ["good", "empty", "none", "latin", "-", "."]
    files = [name if name == "-" else tmp_path / name for name in names]
    done = cli("score", tiny_folder, *files, "--json", stdin=text)
    assert done.returncode == 1
    good, piped = json.loads(done.stdout)
    assert good["path"] == str(tmp_path / "good")
    assert piped["perplexity"] == good["perplexity"]
    expected = pocketgpt.load(tiny_folder).score(text)
    assert good["perplexity"] == pytest.approx(expected.perplexity, rel=1e-6)
    errors = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert [error.split()[1].rstrip(":") for error in errors] == [
        str(tmp_path / name) for name in ("empty", "none", "latin", ".")
    ]
    table = cli("score", tiny_folder, *files[:2])
    assert table.returncode == 1
    assert f"{expected.perplexity:.3f}" in table.stdout


def test_json_says_null_for_what_is_no_number(
    cli: Cli, tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = pocketgpt.FileScore("text", 3, 9, float("inf"), float("nan"))
    monkeypatch.setattr(pocketgpt.Model, "score_file", lambda *_, **__: found)
    done = cli("score", tiny_folder, tmp_path, "--json")

    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    (read,) = json.loads(done.stdout, parse_constant=refuse)
    assert (read["perplexity"], read["bits_per_byte"]) == (None, None)


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("[" * 100_000, "line 1: no JSON"),
        ('{"prompt": ' + "1" * 5000 + "}", "line 1: no JSON"),
        ('{"prompt": NaN, "reference": "a"}', "line 1: prompt should be a string"),
        ('{"prompt": "\\ud800", "reference": "a"}', "line 1: the text holds a lone surrogate"),
        ("null", "line 1: should be an object"),
    ],
    ids=["deep", "huge", "NaN", "surrogate", "null"],
)
def test_lines_that_are_no_pairs(
    cli: Cli, tiny_folder: Path, tmp_path: Path, line: str, says: str
) -> None:
    path = tmp_path / "pairs.jsonl"
    path.write_text(line, "utf-8")
    done = cli("evaluate", tiny_folder, path, "--metric", "exact")
    assert (done.returncode, done.stdout) == (2, "")
    errors = [text for text in done.stderr.splitlines() if text.startswith("error: ")]
    assert len(errors) == 1
    assert says in errors[0]


@pytest.mark.parametrize("place", [".", "x" * 300])
def test_places_that_are_no_file(cli: Cli, tiny_folder: Path, place: str) -> None:
    for verb in ("evaluate", "score"):
        done = cli(verb, tiny_folder, place)
        assert (done.returncode, done.stdout) == (2, "")
        assert "cannot be read" in done.stderr


@pytest.mark.parametrize(
    "flags",
    [
        ["--max-new-tokens", "1" + "0" * 30],
        ["--seed", "1" + "0" * 30],
        ["--threads", "1" + "0" * 30],
        ["--temperature", "1e400"],
        ["--top-k", "1" + "0" * 30],
    ],
    ids=lambda flags: flags[0],
)
def test_huge_numbers_work_or_are_refused_in_a_line(
    cli: Cli, tiny_folder: Path, flags: list[str]
) -> None:
    done = cli("generate", tiny_folder, "A", "--do-sample", "--top-p", "0.9", *flags)
    assert done.returncode in (0, 2)
    assert len(done.stderr.splitlines()) == (done.returncode == 2)


def test_a_line_that_is_not_utf8_ends_no_conversation(cli: Cli, tiny_folder: Path) -> None:
    done = cli("chat", tiny_folder, "--max-new-tokens", "2", stdin=b"caf\xe9\nA\n")
    assert done.returncode == 0
    assert "this line is not UTF-8" in done.stderr
    assert done.stdout.count("\n") >= 1


def test_names_of_files_are_no_markup(
    cli: Cli, tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "400")
    file = tmp_path / "a[" / "b] [draft]:dog:.txt"
    file.parent.mkdir()
    file.write_text("The lighthouse keeper counted the ships.", "utf-8")
    shown = str(file)  # ...a[/b] [draft]:dog:.txt
    done = cli("score", tiny_folder, file)
    assert done.returncode == 0
    assert shown in done.stdout
    assert shown in done.stderr
