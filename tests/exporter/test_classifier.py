"""Classifiers: GPT2ForSequenceClassification in, a proven graph with its labels out."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoTokenizer, GPT2ForSequenceClassification

from pocketgpt import CheckpointError, OptionError
from pocketgpt.engine.graph import open_graph
from pocketgpt.folder.config import read_config
from pocketgpt.folder.labels import Labels
from pocketgpt.folder.manifest import read_manifest
from pocketgpt.tasks.classify import label_logits
from pocketgpt_export import export, verify
from pocketgpt_export.proof.pooled import ask_pooled, pooled_difference
from pocketgpt_export.proof.prove import TOLERANCE

from .conftest import CHECKS


def load_classifier(checkpoint: Path) -> GPT2ForSequenceClassification:
    model: GPT2ForSequenceClassification = GPT2ForSequenceClassification.from_pretrained(
        checkpoint, dtype=torch.float32, attn_implementation="eager"
    )
    model.train(False)
    return model


def edit_config(checkpoint: Path, **fields: Any) -> None:
    path = checkpoint / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text("utf-8")), **fields}), "utf-8")


@pytest.fixture
def copied(classifier_checkpoint: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(classifier_checkpoint, tmp_path / "checkpoint"))


def test_every_check_is_proven(classifier_folder: Path) -> None:
    manifest = read_manifest(classifier_folder)
    assert manifest.proof.keys() == CHECKS | {"pooled"}
    assert all(worst <= TOLERANCE for worst in manifest.proof.values())
    assert verify(classifier_folder).failures == ()


def test_the_folder_says_what_it_is(classifier_folder: Path) -> None:
    config = read_config(classifier_folder)
    names = ("negative", "neutral", "très positif 😀")
    assert config.labels == Labels(names, None, 0)
    assert (config.task, config.n_logits) == ("text-classification", 3)
    written = json.loads((classifier_folder / "config.json").read_text("utf-8"))
    assert written["architectures"] == ["GPT2ForSequenceClassification"]
    assert read_manifest(classifier_folder).variants["fp32"].bits["score.weight"] == 32


def test_transformers_reads_the_folders_configuration(classifier_folder: Path) -> None:
    from transformers import AutoConfig

    config = AutoConfig.from_pretrained(classifier_folder)
    assert (config.num_labels, config.id2label[1]) == (3, "neutral")


def test_the_graph_holds_the_head_as_it_is(
    classifier_checkpoint: Path, classifier_folder: Path
) -> None:
    graph = ir.load(classifier_folder / "onnx" / "model.onnx").graph
    stored = graph.initializers["score.weight"].const_value
    assert stored is not None
    expected = load_file(classifier_checkpoint / "model.safetensors")["score.weight"]
    np.testing.assert_array_equal(stored.numpy(), expected.numpy())
    assert graph.outputs[0].shape == ir.Shape(["batch_size", 1, 3])


def test_all_logits_are_the_scores_of_every_token(
    classifier_checkpoint: Path, classifier_folder: Path
) -> None:
    model = load_classifier(classifier_checkpoint)
    ids = list(range(40, 80))
    with torch.inference_mode():
        expected = model.score(model.transformer(torch.tensor([ids])).last_hidden_state)[0]
    graph = open_graph(classifier_folder / "onnx" / "model.onnx", read_config(classifier_folder))
    np.testing.assert_allclose(graph.decoder().score(ids), expected.numpy(), atol=TOLERANCE)


@pytest.mark.parametrize("graph", ["fused", "portable"])
@pytest.mark.parametrize(
    "fields",
    [
        {"num_labels": 1, "problem_type": "regression", "pad_token_id": None},
        {"num_labels": 5, "problem_type": "multi_label_classification", "pad_token_id": 7},
    ],
    ids=["one label, no pad token", "several labels, a pad token of its own"],
)
def test_other_classifiers_export(
    make_classifier: Callable[..., Path], tmp_path: Path, graph: str, fields: dict[str, Any]
) -> None:
    checkpoint = make_classifier(**fields)
    manifest = export(checkpoint, tmp_path / "folder", graph=graph)
    assert manifest.graph == graph
    assert manifest.proof["pooled"] <= TOLERANCE
    labels = read_config(tmp_path / "folder").labels
    assert labels is not None
    assert labels.names == tuple(f"LABEL_{number}" for number in range(fields["num_labels"]))
    assert labels.pad_token_id == fields["pad_token_id"]


def test_a_wrong_head_fails_the_pooled_check(
    classifier_checkpoint: Path, classifier_folder: Path
) -> None:
    model = load_classifier(classifier_checkpoint)
    graph = open_graph(classifier_folder / "onnx" / "model.onnx", read_config(classifier_folder))
    ids = list(range(1, 60))
    assert pooled_difference(graph, ask_pooled(model, ids)) <= TOLERANCE
    model.score.weight.data[1, 5] += 0.5
    assert pooled_difference(graph, ask_pooled(model, ids)) > TOLERANCE


@pytest.mark.parametrize("architectures", [None, ["GPT2LMHeadModel"], ["GPT2Model"]])
def test_weights_tell_where_the_configuration_does_not(
    copied: Path, tmp_path: Path, architectures: list[str] | None
) -> None:
    edit_config(copied, architectures=architectures)
    export(copied, tmp_path / "folder")
    labels = read_config(tmp_path / "folder").labels
    assert labels is not None
    assert labels.names == ("negative", "neutral", "très positif 😀")


def test_token_types_are_remarked(copied: Path, tmp_path: Path) -> None:
    """transformers' pipeline passes on what the tokenizer gives; GPT-2's own gives ids alone."""
    assert export(copied, tmp_path / "plain").remarks == ()
    text = "the wolf and the sea"
    path = copied / "tokenizer_config.json"
    fields = json.loads(path.read_text("utf-8"))
    path.write_text(json.dumps({**fields, "tokenizer_class": "PreTrainedTokenizerFast"}), "utf-8")
    given = AutoTokenizer.from_pretrained(copied)(text, return_tensors="pt")
    model = load_classifier(copied)
    with torch.inference_mode():
        apart = model(**given).logits - model(given["input_ids"]).logits
    assert apart.abs().max() > TOLERANCE
    (remark,) = export(copied, tmp_path / "folder").remarks
    assert "token_type_ids" in remark


def test_a_head_that_is_missing_is_named(copied: Path, tmp_path: Path) -> None:
    tensors = load_file(copied / "model.safetensors")
    del tensors["score.weight"]
    save_file(tensors, copied / "model.safetensors", {"format": "pt"})
    with pytest.raises(CheckpointError, match=r"1 missing keys, the first score\.weight"):
        export(copied, tmp_path / "folder")


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"id2label": {"0": "a", "1": "b"}}, r"score\.weight has shape \[3, 128\], not \[2, 128\]"),
        ({"id2label": {"0": "a", "1": "b", "2": "a"}}, "two labels are called 'a'"),
        ({"id2label": {"1": "a", "2": "b", "3": "c"}}, "numbers from 0 on"),
        ({"id2label": {"0": "a", "1": "b\n", "2": "c"}}, "a line of text"),
    ],
)
def test_labels_that_do_not_fit_are_refused(
    copied: Path, tmp_path: Path, fields: dict[str, Any], message: str
) -> None:
    edit_config(copied, **fields)
    with pytest.raises(CheckpointError, match=message) as caught:
        export(copied, tmp_path / "folder")
    assert "\n" not in str(caught.value)


def test_places_for_adapters_are_refused(classifier_checkpoint: Path, tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="a classifier gets no places for adapters"):
        export(classifier_checkpoint, tmp_path / "folder", adapters=True)
    assert not (tmp_path / "folder").exists()


def test_verify_tells_other_labels_from_the_folders(classifier_folder: Path, copied: Path) -> None:
    edit_config(copied, id2label={"0": "negative", "1": "neutral", "2": "positive"})
    (failure,) = verify(classifier_folder, copied).failures
    assert "another checkpoint: its labels is ['negative', 'neutral', 'positive']" in failure


@pytest.mark.filterwarnings("ignore:.*gradient_checkpointing:FutureWarning")  # peft's
@pytest.mark.parametrize("kind", ["a classifier", "a language model"])
def test_an_adapter_for_classification_brings_its_head(
    classifier_checkpoint: Path, tiny_checkpoint: Path, tmp_path: Path, kind: str
) -> None:
    """PEFT saves the head whole: a base that has none gets it, and one that has exchanges it."""
    peft = pytest.importorskip("peft")
    base = classifier_checkpoint if kind == "a classifier" else tiny_checkpoint
    torch.manual_seed(0)
    model = GPT2ForSequenceClassification.from_pretrained(
        base, attn_implementation="eager", num_labels=3
    )
    lora = peft.LoraConfig(
        task_type="SEQ_CLS", r=2, fan_in_fan_out=True, target_modules=["c_attn", "c_proj"]
    )
    adapted = peft.get_peft_model(model, lora).eval()
    for name, parameter in adapted.named_parameters():
        if "lora_B" in name or "modules_to_save" in name:
            parameter.data.normal_(0, 0.2)
    adapted.save_pretrained(tmp_path / "adapter")
    export(tmp_path / "adapter", tmp_path / "folder", base=base)
    config = read_config(tmp_path / "folder")
    assert config.labels is not None
    names = ("negative", "neutral", "très positif 😀")
    assert config.labels.names == (
        names if kind == "a classifier" else ("LABEL_0", "LABEL_1", "LABEL_2")
    )
    ids = list(range(50, 70))
    with torch.inference_mode():
        expected = adapted(torch.tensor([ids])).logits.numpy()
    graph = open_graph(tmp_path / "folder" / "onnx" / "model.onnx", config)
    found = label_logits(graph.decoder, [ids], config, 1)
    np.testing.assert_allclose(found, expected, atol=TOLERANCE)


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        (None, "has no weights: none of adapter_model.safetensors"),
        ({}, r"holds no score\.weight for a width of 128"),
        ({"base_model.model.score.weight": torch.zeros(3, 64)}, "for a width of 128"),
    ],
)
def test_an_adapter_without_its_head_is_refused(
    tiny_checkpoint: Path, tmp_path: Path, weights: dict[str, torch.Tensor] | None, message: str
) -> None:
    fields = {"peft_type": "LORA", "task_type": "SEQ_CLS"}
    (tmp_path / "adapter").mkdir()
    (tmp_path / "adapter" / "adapter_config.json").write_text(json.dumps(fields), "utf-8")
    if weights is not None:
        save_file(weights, tmp_path / "adapter" / "adapter_model.safetensors")
    with pytest.raises(CheckpointError, match=message):
        export(tmp_path / "adapter", tmp_path / "folder", base=tiny_checkpoint)
