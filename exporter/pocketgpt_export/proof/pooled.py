"""A classifier's graph against the class it was exported from, on texts of several lengths."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from transformers import GPT2ForSequenceClassification

from pocketgpt.engine.graph import Graph
from pocketgpt.generation.processors import Logits
from pocketgpt.tasks.classify import label_logits

LENGTHS = (1, 5, 17, 48)  # tokens of a batch's texts; the context may be shorter


@dataclass(frozen=True)
class Pooled:
    """Texts, and PyTorch's logits `[texts, num_labels]` of them, right-padded in one batch.

    Without a pad token the class takes texts one by one.
    """

    texts: tuple[tuple[int, ...], ...]
    logits: Logits


def ask_pooled(model: GPT2ForSequenceClassification, ids: Sequence[int]) -> Pooled:
    """Run PyTorch over beginnings of `ids`, one that ends in the pad token among them."""
    lengths = [min(length, len(ids)) for length in LENGTHS]
    texts = [tuple(ids[:length]) for length in lengths]
    pad = model.config.pad_token_id
    if pad is not None and 0 <= pad < model.config.vocab_size:
        texts.append((*ids[: min(3, len(ids) - 1)], pad))
        batches = [texts]
    else:
        pad, batches = 0, [[text] for text in texts]
    found = [_ask(model, batch, pad) for batch in batches]
    return Pooled(tuple(texts), np.concatenate(found))


def _ask(model: GPT2ForSequenceClassification, texts: list[tuple[int, ...]], pad: int) -> Logits:
    longest = max(map(len, texts))
    padded = torch.tensor([[*text, *[pad] * (longest - len(text))] for text in texts])
    mask = torch.tensor([[1] * len(text) + [0] * (longest - len(text)) for text in texts])
    with torch.inference_mode():
        logits: Logits = model(padded, attention_mask=mask, use_cache=False).logits.numpy()
    return logits


def pooled_difference(graph: Graph, reference: Pooled) -> float:
    """Return the largest difference of a logit, the texts classified as the runtime does."""
    found = label_logits(graph.decoder, reference.texts, graph.config, len(reference.texts))
    return float(np.abs(found - reference.logits).max())
