"""Bits per byte on a whole work: the model's, and a general compressor's for comparison."""

from __future__ import annotations

import lzma
import math
from pathlib import Path

import torch
from torch.nn.functional import cross_entropy
from transformers import GPT2LMHeadModel, GPT2TokenizerFast

BATCH = 8  # windows


@torch.inference_mode()
def bits_per_byte(model: GPT2LMHeadModel, tokenizer: GPT2TokenizerFast, path: Path) -> float:
    """Return the bits that `model` needs to write the work, for each of its UTF-8 bytes.

    The work starts from the boundary token, as in training, so its first token counts too. Sliding
    windows of the whole context, half of it apart
    (https://huggingface.co/docs/transformers/perplexity): every token is scored once.
    """
    text = path.read_text("utf-8")
    stream = [tokenizer.bos_token_id, *tokenizer.backend_tokenizer.encode(text).ids]
    context = model.config.n_positions
    windows = []  # (ids, how many of them were scored before)
    scored = 1
    for begin in range(0, len(stream), context // 2):
        ids = stream[begin : begin + context]
        windows.append((ids, scored - begin))
        scored = begin + len(ids)
        if scored == len(stream):
            break
    nats = 0.0
    full = [window for window in windows if len(window[0]) == context]
    groups = [full[start : start + BATCH] for start in range(0, len(full), BATCH)]
    groups += [[window] for window in windows if len(window[0]) < context]
    for group in groups:
        batch = torch.tensor([window[0] for window in group])
        logits = model(input_ids=batch).logits[:, :-1]
        losses = cross_entropy(logits.transpose(1, 2), batch[:, 1:], reduction="none")
        for row, (_, first) in zip(losses, group, strict=True):
            nats += float(row[first - 1 :].double().sum())
    return nats / math.log(2) / len(text.encode("utf-8"))


def xz_bits_per_byte(path: Path) -> float:
    """Return what `xz -9` makes of the work, in bits per byte."""
    content = path.read_bytes()
    return 8 * len(lzma.compress(content, preset=9)) / len(content)
