"""Classifying: labels and probabilities as transformers' pipeline gives them."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tokenizers import processors
from transformers import GPT2ForSequenceClassification, GPT2TokenizerFast, pipeline

import pocketgpt
from pocketgpt import Classification, OptionError
from pocketgpt.folder.labels import Labels
from pocketgpt.tasks.classify import label_logits, pooled_ids, probabilities_of

from ..conftest import SENTENCES

TEXTS = [
    "a",
    "The lighthouse keeper counted the ships.",
    "灯台守は船を数えた。明日は風が変わるだろう。",
    "We danced 💃🕺 all night 👨‍👩‍👧‍👦",
    "It ends here<|endoftext|>",  # in the token that also pads
    "<|endoftext|><|endoftext|>",
    *SENTENCES,
]
TOLERANCE = 1e-5  # of a probability; logits are proven within 1e-4


def ask_pipeline(checkpoint: Path, texts: Sequence[str]) -> list[dict[str, float]]:
    """What transformers' pipeline gives, text by text: every label's score, the largest first."""
    model = GPT2ForSequenceClassification.from_pretrained(
        checkpoint, dtype=torch.float32, attn_implementation="eager"
    )
    tokenizer = GPT2TokenizerFast.from_pretrained(checkpoint)
    classifier = pipeline("text-classification", model=model, tokenizer=tokenizer, device="cpu")
    return [{one["label"]: one["score"] for one in classifier(text, top_k=None)} for text in texts]


def check_equal(found: Sequence[Classification], expected: Sequence[dict[str, float]]) -> None:
    for one, reference in zip(found, expected, strict=True):
        assert one.probabilities == pytest.approx(reference, abs=TOLERANCE)
        assert one.label == next(iter(reference)) == next(iter(one.probabilities))
        assert one.probability == one.probabilities[one.label]


@pytest.fixture(scope="module")
def classifier(classifier_folder: Path) -> pocketgpt.Model:
    return pocketgpt.load(classifier_folder, "fp32")


@pytest.mark.parametrize("graph", ["fused", "portable"])
@pytest.mark.parametrize(
    "fields",
    [
        {"num_labels": 4},
        {"num_labels": 2, "problem_type": "single_label_classification", "pad_token_id": None},
        {"num_labels": 3, "problem_type": "multi_label_classification"},
        {"num_labels": 2, "problem_type": "regression"},
        {"num_labels": 1},
        {"num_labels": 1, "problem_type": "regression", "pad_token_id": 5},
    ],
    ids=["softmax", "no pad token", "multi-label", "regression", "one label", "one value"],
)
def test_probabilities_are_the_pipelines(
    make_classifier: Callable[..., Path], tmp_path: Path, graph: str, fields: dict[str, Any]
) -> None:
    from pocketgpt_export import export

    checkpoint = make_classifier(**fields)
    export(checkpoint, tmp_path / "folder", graph=graph)
    model = pocketgpt.load(tmp_path / "folder")
    expected = ask_pipeline(checkpoint, TEXTS)
    check_equal(model.classify(TEXTS), expected)
    check_equal([model.classify(text) for text in TEXTS[:3]], expected[:3])


@pytest.mark.parametrize("batch_size", [1, 3, 64])
def test_a_text_gets_the_same_alone_and_in_any_batch(
    classifier: pocketgpt.Model, batch_size: int
) -> None:
    alone = [classifier.classify(text) for text in TEXTS]
    together = classifier.classify(TEXTS, batch_size=batch_size)
    for one, other in zip(alone, together, strict=True):
        assert one.label == other.label
        assert one.probabilities == pytest.approx(other.probabilities, abs=1e-6)


def test_a_padded_batch_of_transformers_gives_the_same(
    classifier_checkpoint: Path, classifier: pocketgpt.Model
) -> None:
    model = GPT2ForSequenceClassification.from_pretrained(
        classifier_checkpoint, dtype=torch.float32, attn_implementation="eager"
    )
    tokenizer = GPT2TokenizerFast.from_pretrained(classifier_checkpoint, padding_side="right")
    tokenizer.pad_token_id = 0
    batch = tokenizer(TEXTS, padding=True, return_tensors="pt")
    with torch.inference_mode():
        expected = model(**batch).logits.numpy()
    ids = [classifier.tokenizer.encode(text) for text in TEXTS]
    found = label_logits(classifier.new_decoder, ids, classifier.config, 16)
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_a_text_longer_than_a_chunk_is_read_in_chunks(
    make_classifier: Callable[..., Path], tmp_path: Path
) -> None:
    from pocketgpt_export import export

    checkpoint = make_classifier(n_positions=600)
    export(checkpoint, tmp_path / "folder")
    text = " ".join(SENTENCES)[:600]
    model = pocketgpt.load(tmp_path / "folder")
    found = model.classify([text, "short", text[:400]])
    assert found[0].tokens > 256
    check_equal(found, ask_pipeline(checkpoint, [text, "short", text[:400]]))


def test_truncation_keeps_the_first_tokens(
    classifier_checkpoint: Path, classifier: pocketgpt.Model
) -> None:
    text = "ships and boats and nets " * 20
    found = classifier.classify(text, truncation=True)
    tokenizer = GPT2TokenizerFast.from_pretrained(classifier_checkpoint)
    ids = tokenizer(text, truncation=True, max_length=96)["input_ids"]
    model = GPT2ForSequenceClassification.from_pretrained(
        classifier_checkpoint, dtype=torch.float32, attn_implementation="eager"
    )
    with torch.inference_mode():
        expected = model(torch.tensor([ids])).logits[0].softmax(-1).tolist()
    names = model.config.id2label
    assert found.tokens == 96
    assert found.probabilities == pytest.approx(
        {names[number]: value for number, value in enumerate(expected)}, abs=TOLERANCE
    )


def test_truncation_keeps_what_the_tokenizer_puts_around_a_text(
    classifier_checkpoint: Path, tmp_path: Path
) -> None:
    from pocketgpt_export import export

    checkpoint = Path(shutil.copytree(classifier_checkpoint, tmp_path / "checkpoint"))
    tokenizer = GPT2TokenizerFast.from_pretrained(checkpoint)
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="<|endoftext|> $A <|endoftext|>", special_tokens=[("<|endoftext|>", 0)]
    )
    tokenizer.save_pretrained(checkpoint)
    export(checkpoint, tmp_path / "folder")
    model = pocketgpt.load(tmp_path / "folder")
    check_equal([model.classify("")], ask_pipeline(checkpoint, [""]))  # there are tokens now
    text = "ships and boats and nets " * 20
    found = model.classify(text, truncation=True)
    reloaded = GPT2TokenizerFast.from_pretrained(checkpoint)
    ids = reloaded(text, truncation=True, max_length=96)["input_ids"]
    assert found.tokens == len(ids) == 96
    logits = label_logits(model.new_decoder, [ids], model.config, 1)
    assert model.config.labels is not None
    expected = probabilities_of(logits, model.config.labels)[0]
    assert sorted(found.probabilities.values()) == pytest.approx(sorted(expected))


def test_top_k_gives_the_likeliest(classifier: pocketgpt.Model) -> None:
    whole = classifier.classify(TEXTS[1])
    assert sum(whole.probabilities.values()) == pytest.approx(1)
    two = classifier.classify(TEXTS[1], top_k=2)
    assert list(two.probabilities.items()) == list(whole.probabilities.items())[:2]
    assert classifier.classify(TEXTS[1], top_k=99) == whole


def test_probabilities_by_hand() -> None:
    """e^0, e^log 3 and e^log 4 are 1, 3 and 4 of 8; 1 / (1 + e^-log 3) is 3 / 4."""
    logits = np.array([[0.0, math.log(3), math.log(4)]], np.float32)
    names = ("a", "b", "c")
    assert probabilities_of(logits, Labels(names))[0] == pytest.approx([1 / 8, 3 / 8, 4 / 8])
    several = Labels(names, "multi_label_classification")
    assert probabilities_of(logits, several)[0] == pytest.approx([1 / 2, 3 / 4, 4 / 5])
    values = Labels(names, "regression")
    np.testing.assert_array_equal(probabilities_of(logits, values), logits)
    far = np.array([[-2000.0]], np.float32)
    assert probabilities_of(far, Labels(("a",)))[0] == 0
    found = Classification.of(Labels(names), np.array([0.25, 0.5, 0.25]), 7)
    assert found == Classification("b", 0.5, {"b": 0.5, "a": 0.25, "c": 0.25}, 7)


def test_the_pad_token_is_passed_over_at_a_texts_end() -> None:
    assert pooled_ids([5, 0, 6, 0, 0], 0) == [5, 0, 6]
    assert pooled_ids([0, 0, 0], 0) == [0]
    assert pooled_ids([5, 0], None) == [5, 0]
    assert pooled_ids([5, 0], 7) == [5, 0]


def test_no_texts_are_no_answers(classifier: pocketgpt.Model) -> None:
    assert classifier.classify([]) == []


@pytest.mark.parametrize(
    ("text", "options", "message"),
    [
        ("", {}, "the text cannot be classified: it is empty"),
        (["a", ""], {}, "text 2 cannot be classified: it is empty"),
        (["a", 5], {}, "text 2 cannot be classified: it should be a string, not int"),
        ("ships and boats " * 60, {}, r"it has \d+ tokens, the model's context is 96"),
        ("a\ud800", {}, "lone surrogate"),
        ("a", {"top_k": 0}, "top_k should be a whole number of at least 1"),
        ("a", {"batch_size": 0}, "batch_size should be"),
        ("a", {"truncation": "yes"}, "truncation should be one of True, False"),
    ],
)
def test_what_cannot_be_classified_is_refused_in_one_line(
    classifier: pocketgpt.Model, text: Any, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(OptionError, match=message) as caught:
        classifier.classify(text, **options)
    assert "\n" not in str(caught.value)


def test_an_unknown_option_is_pythons_own_error(classifier: pocketgpt.Model) -> None:
    with pytest.raises(TypeError, match="temperature"):
        classifier.classify("a", temperature=0.5)  # type: ignore[call-overload]


@pytest.mark.parametrize(
    "call",
    [
        lambda model: model.generate("a"),
        lambda model: model.stream("a"),
        lambda model: model.generate(["a", "b"]),
        lambda model: model.session(),
        lambda model: model.score("a b c"),
        lambda model: model.score_file("a.txt"),
        lambda model: model.evaluate("a.jsonl"),
        lambda model: model.choose("a", ["b"]),
    ],
)
def test_a_classifier_generates_nothing(
    classifier: pocketgpt.Model, call: Callable[[pocketgpt.Model], object]
) -> None:
    with pytest.raises(OptionError, match=r"this folder is a classifier.*use classify"):
        call(classifier)


def test_a_language_model_classifies_nothing(tiny: pocketgpt.Model) -> None:
    with pytest.raises(OptionError, match=r"this folder is a language model.*use choose"):
        tiny.classify("a")


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"architectures": ["GPT2LMHeadModel"]}, "'logits' of shape"),
        ({"id2label": {"0": "a", "1": "b"}}, "'logits' of shape"),
        ({"id2label": {"0": "a", "1": "a", "2": "b"}}, "'id2label'"),
        ({"id2label": {"0": "a", "1": 2, "2": ["b"]}}, "'id2label'"),
        ({"id2label": None}, "'id2label'"),
        ({"id2label": {"0": "a", "1": "b", "3": "c"}}, "'id2label'"),
        ({"problem_type": "guessing"}, "'problem_type'"),
        ({"problem_type": ["x" * 500]}, "'problem_type'"),
        ({"pad_token_id": "x"}, "'pad_token_id'"),
    ],
)
def test_a_configuration_that_does_not_fit_is_refused(
    classifier_folder: Path, tmp_path: Path, fields: dict[str, Any], message: str
) -> None:
    folder = Path(shutil.copytree(classifier_folder, tmp_path / "folder"))
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text("utf-8")), **fields}), "utf-8")
    with pytest.raises(pocketgpt.ModelFolderError, match=message) as caught:
        pocketgpt.load(folder, "fp32")
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400
