"""`classify`, `choose` and what `inspect` says of a classifier."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

import pocketgpt

from ..conftest import SENTENCES, Cli


def as_json(found: Any) -> Any:
    return json.loads(json.dumps([dataclasses.asdict(one) for one in found]))


@pytest.fixture(scope="module")
def classifier(classifier_folder: Path) -> pocketgpt.Model:
    return pocketgpt.load(classifier_folder)


def test_texts_of_the_call_are_classified(
    cli: Cli, classifier: pocketgpt.Model, classifier_folder: Path
) -> None:
    texts = ["The wind will turn.", "灯台守 [b]🌙[/b]"]
    expected = classifier.classify(texts)
    code, text, _ = cli("classify", classifier_folder, *texts, "--json")
    assert (code, json.loads(text)) == (0, as_json(expected))
    code, text, _ = cli("classify", classifier_folder, *texts, "--top-k", 2, "--json")
    assert json.loads(text) == as_json(classifier.classify(texts, top_k=2))
    code, text, errors = cli("classify", classifier_folder, *texts)
    assert code == 0
    assert "灯台守 [b]🌙[/b]" in text
    for one in expected:
        assert one.label in text
        assert f"{one.probability:.4f}" in text
    assert "classifying" in errors


def test_a_file_and_standard_input_have_a_text_a_line(
    cli: Cli, classifier: pocketgpt.Model, classifier_folder: Path, tmp_path: Path
) -> None:
    lines = [sentence.split("\n")[0] for sentence in SENTENCES]
    content = "\r\n".join(lines) + "\n"
    (tmp_path / "texts.txt").write_bytes(content.encode())
    expected = as_json(classifier.classify(lines))
    (tmp_path / "marked.txt").write_bytes(b"\xef\xbb\xbf" + content.encode())  # as on Windows
    for arguments, stdin in (
        (["--file", tmp_path / "texts.txt"], ""),
        (["--file", tmp_path / "marked.txt"], ""),
        (["--file", "-"], content),
        (["-"], content),
        ([], "\ufeff" + content),
    ):
        call = ["classify", classifier_folder, *arguments, "--json", "--batch-size", 3]
        code, text, _ = cli(*call, stdin=stdin)
        assert code == 0
        found = json.loads(text)
        assert [one["label"] for one in found] == [one["label"] for one in expected]
        assert [one["probability"] for one in found] == pytest.approx(
            [one["probability"] for one in expected], abs=1e-6
        )


@pytest.mark.parametrize(
    ("arguments", "stdin", "message"),
    [
        (["a", "--file", "b"], "", "give texts or --file, not both"),
        (["--file", "nowhere.txt"], "", "nowhere.txt cannot be read"),
        ([], "a\n\nb\n", "text 2 cannot be classified: it is empty"),
        ([], "", "the text cannot be classified: it is empty"),
        ([], b"\xff", "not UTF-8"),
        (["ships and boats " * 60], "", "--truncation"),
        (["a", "--top-k", "0"], "", "top_k should be"),
        (["a", "--variant", "q9"], "", "no variant 'q9'"),
    ],
)
def test_a_wrong_call_ends_in_one_line(
    cli: Cli, classifier_folder: Path, arguments: list[str], stdin: Any, message: str
) -> None:
    code, text, errors = cli("classify", classifier_folder, *arguments, stdin=stdin)
    assert (code, text) == (2, "")
    assert message in errors


def test_long_texts_are_cut_on_request(cli: Cli, classifier_folder: Path) -> None:
    code, text, _ = cli("classify", classifier_folder, "ships " * 99, "--truncation", "--json")
    assert code == 0
    assert json.loads(text)[0]["tokens"] == 96


def test_choices_are_ranked(cli: Cli, tiny: pocketgpt.Model, tiny_folder: Path) -> None:
    prompt, choices = "The lighthouse keeper", [" counted the ships", " [/b]", " 灯台守"]
    expected = tiny.choose(prompt, choices, normalization="bytes")
    call = ["choose", tiny_folder, prompt, *choices, "--normalization", "bytes"]
    code, text, _ = cli(*call, "--variant", "fp32", "--json")
    assert (code, json.loads(text)) == (0, as_json([expected])[0])
    code, text, _ = cli("choose", tiny_folder, "-", *choices, "--variant", "fp32", stdin=prompt)
    assert code == 0
    places = [text.index(one.text.strip()) for one in tiny.choose(prompt, choices).ranked]
    assert places == sorted(places)
    code, text, errors = cli(*call[:-1], "words")
    assert (code, text) == (2, "")
    assert "normalization should be one of" in errors


def test_each_kind_names_the_verb_of_the_other(
    cli: Cli, tiny_folder: Path, classifier_folder: Path
) -> None:
    for call in (
        ["generate", classifier_folder, "a"],
        ["score", classifier_folder, Path(__file__)],
        ["evaluate", classifier_folder, "a"],
        ["choose", classifier_folder, "a", "b"],
        ["chat", classifier_folder],
    ):
        code, text, errors = cli(*call)
        assert (code, text.strip()) == (2, ""), call
        assert "is a classifier, which predicts no next token: use classify" in errors
    code, _, errors = cli("classify", tiny_folder, "a")
    assert code == 2
    assert "is a language model, which has no labels: use choose" in errors


def test_inspect_shows_the_task_and_the_labels(
    cli: Cli, tiny_folder: Path, classifier_folder: Path
) -> None:
    _, text, _ = cli("inspect", classifier_folder)
    assert "text-classification, labels negative, neutral, très positif 😀" in text
    _, text, _ = cli("inspect", tiny_folder)
    assert "text-generation" in text
