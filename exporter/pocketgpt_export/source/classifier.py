"""The two heads a GPT-2 may have: one that predicts the next token, one that scores labels."""

from __future__ import annotations

import copy
from collections.abc import Mapping

import torch
from torch import Tensor
from transformers import GPT2Config, GPT2ForSequenceClassification, GPT2LMHeadModel

from pocketgpt import CheckpointError
from pocketgpt.engine.contract import SCORE_WEIGHT
from pocketgpt.folder.labels import ARCHITECTURE, labels_of

from .names import HEAD

GPT2 = GPT2LMHeadModel | GPT2ForSequenceClassification


def model_class(config: GPT2Config, tensors: Mapping[str, Tensor]) -> type[GPT2]:
    """Return the class of a checkpoint: a classifier where config.json or the weights say so."""
    scored = SCORE_WEIGHT in tensors and HEAD not in tensors
    if scored or ARCHITECTURE in (config.architectures or ()):
        return GPT2ForSequenceClassification
    return GPT2LMHeadModel


def settle_labels(config: GPT2Config, where: str) -> None:
    """Let a classifier's configuration say that it is one, and check its labels.

    Raises:
        CheckpointError: they are not such as the runtime takes.
    """
    config.architectures = [ARCHITECTURE]
    try:
        labels_of(config.to_dict())
    except ValueError as error:
        raise CheckpointError(f"{where}'s config.json is wrong in {error}") from None


def as_language_model(model: GPT2) -> GPT2LMHeadModel:
    """Return a model whose head is untied and scores labels, for tools that know no other class.

    It is the same model where it is a language model; else it has the classifier's own modules.
    """
    if isinstance(model, GPT2LMHeadModel):
        return model
    config = copy.deepcopy(model.config)
    config.tie_word_embeddings = False
    with torch.device("meta"):  # takes no memory: every module of it is replaced
        shell = GPT2LMHeadModel(config)
    shell.transformer, shell.lm_head = model.transformer, model.score
    evaluated: GPT2LMHeadModel = shell.eval()
    return evaluated
