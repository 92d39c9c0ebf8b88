"""The head that a LoRA adapter for classification brings along to a base without one.

PEFT saves it whole, beside the adapter's own weights; what its labels are called it does not save.
"""

from __future__ import annotations

import copy
from pathlib import Path

import torch
from torch import nn
from transformers import GPT2ForSequenceClassification, GPT2LMHeadModel

from pocketgpt import CheckpointError
from pocketgpt.engine.contract import SCORE_WEIGHT
from pocketgpt.folder.json_file import read_json_object

from .adapter import CONFIG, read_tensors
from .classifier import GPT2, settle_labels

CLASSIFICATION = "SEQ_CLS"  # PEFT's TaskType


def with_adapters_head(model: GPT2, adapter: Path) -> GPT2:
    """Return a base as the classifier that an adapter was trained on, if it was one.

    Args:
        model: the base; a language model gives its body, and the head is left to the merge.
        adapter: the adapter's folder.

    Raises:
        CheckpointError: the adapter is damaged, or has no head of the base's width.
    """
    fields = read_json_object(adapter / CONFIG, CheckpointError, remedy="copy the adapter again")
    if fields.get("task_type") != CLASSIFICATION or not isinstance(model, GPT2LMHeadModel):
        return model
    tensors = read_tensors(adapter)
    heads = [tensor for name, tensor in tensors.items() if name.endswith(f".{SCORE_WEIGHT}")]
    width = model.config.n_embd
    if len(heads) != 1 or heads[0].ndim != 2 or heads[0].shape[1] != width:
        raise CheckpointError(
            f"{adapter} was trained to classify, and holds no {SCORE_WEIGHT} for a width of "
            f"{width}; give the classifier it was trained on by --base (base=...)"
        )
    config = copy.deepcopy(model.config)
    if config.num_labels != len(heads[0]):
        config.num_labels = len(heads[0])  # and labels LABEL_0, LABEL_1, ...
    settle_labels(config, str(adapter))
    plain = copy.deepcopy(config)
    plain.activation_function = "relu"  # xIELU computes with its numbers, and meta has none
    with torch.device("meta"):  # takes no memory: every module of it is replaced
        classifier = GPT2ForSequenceClassification(plain)
    classifier.config = config
    classifier.transformer = model.transformer
    classifier.score = nn.Linear(width, len(heads[0]), bias=False)
    classifier.requires_grad_(False)
    classifier.train(False)
    return classifier
