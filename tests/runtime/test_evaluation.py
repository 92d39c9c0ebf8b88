"""Evaluating against references: the metrics by hand, the file's format, the command."""

from __future__ import annotations

import dataclasses
import json
import math
import sys
from pathlib import Path
from typing import Any

import pytest

import pocketgpt
from pocketgpt import MissingExtraError, OptionError
from pocketgpt.measure.evaluate import read_pairs
from pocketgpt.measure.metrics import METRICS, bleu, exact, rouge

from ..conftest import Cli

TEXT = "the cat sat on the mat"
REFERENCE = "the cat sat on a mat"
PROMPTS = ["The quick", "A dog", "naïve", "brown fox jumps"]


def write_pairs(path: Path, *lines: Any) -> Path:
    """One object, or line as it is, a line."""
    written = [line if isinstance(line, str) else json.dumps(line) for line in lines]
    path.write_text("\n".join(written) + "\n", "utf-8")
    return path


def test_bleu_by_hand() -> None:
    """5 of 6 words, 3 of 5 pairs, 2 of 4 triples, 1 of 3 fours: their geometric mean."""
    scores, signature = bleu()([TEXT], [[REFERENCE]])
    expected = 100 * math.prod([5 / 6, 3 / 5, 2 / 4, 1 / 3]) ** (1 / 4)
    assert scores["bleu"] == pytest.approx(expected)
    assert "version" in signature
    two, _ = bleu()([TEXT, "no match at all"], [[REFERENCE], ["x y z u", "no match at all", "v"]])
    pooled = [9 / 10, 6 / 8, 4 / 6, 2 / 4]  # counts of both texts, the second's all found
    assert two["bleu"] == pytest.approx(100 * math.prod(pooled) ** (1 / 4))


def test_rouge_by_hand() -> None:
    """5 of 6 words, 3 of 5 pairs; the longest common subsequence has 5 words."""
    scores, _ = rouge()([TEXT], [[REFERENCE]])
    assert scores == pytest.approx({"rouge1": 5 / 6, "rouge2": 3 / 5, "rougeL": 5 / 6})
    scores, _ = rouge()([TEXT, "x"], [["nothing", TEXT], ["y"]])
    assert scores == pytest.approx({"rouge1": 0.5, "rouge2": 0.5, "rougeL": 0.5})


def test_exact_by_hand() -> None:
    scores, _ = exact()([" a b\n", "a  b", "c", "d"], [["a b"], ["a b"], ["x", " c"], ["D"]])
    assert scores == {"exact": 0.5}


@pytest.mark.parametrize("metric", METRICS)
def test_the_models_own_texts_score_full(
    model: pocketgpt.Model, tmp_path: Path, metric: str
) -> None:
    options: dict[str, Any] = {"max_new_tokens": 12, "do_sample": True, "seed": 5}
    texts = [model.generate(prompt, **options).text for prompt in PROMPTS]
    lines = [
        {"prompt": prompt, "references": ["other", text], "id": 7}
        for prompt, text in zip(PROMPTS, texts, strict=True)
    ]
    seen: list[tuple[int, int]] = []
    found = model.evaluate(
        write_pairs(tmp_path / "pairs.jsonl", *lines[:2], "", *lines[2:]),
        metric,
        batch_size=3,
        progress=lambda done, total: seen.append((done, total)),
        **options,
    )
    assert found.texts == tuple(texts)
    assert (found.metric, found.pairs) == (metric, 4)
    assert seen == [(3, 4), (4, 4)]
    expected, _ = METRICS[metric]()(texts, [[text] for text in texts])
    assert found.scores == pytest.approx(expected)
    if metric != "rouge":  # which sees no letters beyond a to z
        assert list(found.scores.values()) == [pytest.approx(100 if metric == "bleu" else 1)]
    assert found.signature


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("{", "no JSON"),
        ("[]", "should be an object"),
        ({"prompt": "A"}, "either reference, a string, or references"),
        ({"prompt": "A", "reference": "b", "references": ["b"]}, "either reference"),
        ({"reference": "b"}, "prompt should be a string, not None"),
        ({"prompt": 5, "reference": "b"}, "prompt should be a string, not 5"),
        ({"prompt": "A", "reference": 5}, "references should be strings"),
        ({"prompt": "A", "references": []}, "references should be strings in a list, at least one"),
        ({"prompt": "A", "references": "b"}, "references should be strings"),
        ({"prompt": "A", "references": ["b", None]}, "references should be strings"),
        ({"prompt": "z " * 40, "reference": "b"}, "the prompt has 80 tokens"),
    ],
    ids=str,
)
def test_a_broken_line_is_refused_by_its_number(
    model: pocketgpt.Model, tmp_path: Path, line: Any, says: str
) -> None:
    good = {"prompt": "A", "reference": "b"}
    path = write_pairs(tmp_path / "pairs.jsonl", good, "", line, good)
    with pytest.raises(OptionError, match=f"pairs.jsonl, line 3: .*{says}") as caught:
        model.evaluate(path)
    assert "\n" not in str(caught.value)


def test_line_separators_within_a_text_end_no_line(tmp_path: Path) -> None:
    text = "one\u2028two\x85three\x0b"
    line = json.dumps({"prompt": text, "reference": text}, ensure_ascii=False)
    (pair,) = read_pairs(write_pairs(tmp_path / "pairs.jsonl", line))
    assert (pair.prompt, pair.references, pair.line) == (text, (text,), 1)


def test_bad_calls_are_refused(model: pocketgpt.Model, tmp_path: Path) -> None:
    path = write_pairs(tmp_path / "pairs.jsonl", {"prompt": "A", "reference": "b"})
    with pytest.raises(OptionError, match=r"metric should be one of 'bleu', .*'choice'"):
        model.evaluate(path, "meteor")
    with pytest.raises(OptionError, match="no num_return_sequences"):
        model.evaluate(path, num_return_sequences=2, do_sample=True)  # type: ignore[call-arg]
    with pytest.raises(OptionError, match="unknown option top_q"):
        model.evaluate(path, top_q=1)  # type: ignore[call-arg]
    with pytest.raises(OptionError, match="batch_size should be"):
        model.evaluate(path, batch_size=0)
    with pytest.raises(OptionError, match="cannot be read"):
        model.evaluate(tmp_path / "none")
    with pytest.raises(OptionError, match="has no line"):
        model.evaluate(write_pairs(tmp_path / "empty", ""))
    (tmp_path / "latin").write_bytes(b'{"prompt": "caf\xe9", "reference": "b"}')
    with pytest.raises(OptionError, match="cannot be read"):
        model.evaluate(tmp_path / "latin")


@pytest.mark.parametrize(
    ("metric", "module"),
    [("bleu", "sacrebleu.metrics.bleu"), ("rouge", "rouge_score.rouge_scorer")],
)
def test_a_missing_library_is_named(
    model: pocketgpt.Model,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    metric: str,
    module: str,
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    path = write_pairs(tmp_path / "pairs.jsonl", {"prompt": "A", "reference": "b"})
    with pytest.raises(MissingExtraError, match=r"pip install 'pocketgpt\[evaluate\]'"):
        model.evaluate(path, metric)


def test_the_command_line(
    cli: Cli, model: pocketgpt.Model, random_folder: Path, tmp_path: Path
) -> None:
    lines = [{"prompt": prompt, "reference": "the dog"} for prompt in PROMPTS]
    path = write_pairs(tmp_path / "pairs.jsonl", *lines)
    flags = ["--metric", "rouge", "--max-new-tokens", "9", "--num-beams", "2"]
    expected = model.evaluate(path, "rouge", max_new_tokens=9, num_beams=2)
    code, text, _ = cli("evaluate", random_folder, path, *flags, "--json")
    assert code == 0
    assert json.loads(text) == json.loads(json.dumps(dataclasses.asdict(expected)))
    code, text, _ = cli("evaluate", random_folder, path, *flags)
    assert code == 0
    assert f"{expected.scores['rougeL']:.4f}" in text
    assert "4 prompts; rouge-score" in text
    write_pairs(path, {"prompt": "A"})
    code, text, errors = cli("evaluate", random_folder, path)
    assert (code, text) == (2, "")
    assert "pairs.jsonl, line 1" in errors
