"""What PyTorch says: the sequences every proof runs on, and their logits.

All of it is worked out before the graph is opened, so that the checkpoint's weights need not stay
in memory beside the graph's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import GPT2ForSequenceClassification, PreTrainedTokenizerFast

from ..source.classifier import GPT2
from ..source.quiet import quiet_transformers
from .pooled import Pooled, ask_pooled
from .tokenizer import ENGLISH, reference_ids

Logits = NDArray[np.floating[Any]]

PROOF_TOKENS = 48
TAIL_TOKENS = 8
TEXT, TEXT_CHARACTERS = "evaluation.txt", 20_000


@dataclass(frozen=True)
class Expected:
    """Token ids, and PyTorch's logits `[positions, vocab_size]` after the last `positions` ids."""

    ids: list[int]
    logits: Logits


@dataclass(frozen=True)
class Reference:
    """PyTorch's answers to what the proof asks.

    `whole` has all logits of random and of real token ids. `with_eos` has all logits of ids whose
    prompt, `prompt_tokens` long, contains EOS and ends in it. `context` has the last logits of
    random and real ids that fill the whole context. `eos_token_id` also pads the proof's batch.
    `pooled` is a classifier's own answer to a batch of texts.
    `float32_error` is what PyTorch's float32 is off these logits by, where they are in float64.
    """

    whole: tuple[Expected, ...]
    with_eos: Expected
    prompt_tokens: int
    context: tuple[Expected, ...]
    eos_token_id: int
    pooled: Pooled | None = None
    float32_error: float = 0.0

    @property
    def cases(self) -> tuple[Expected, ...]:
        """All sequences."""
        return (*self.whole, self.with_eos, *self.context)

    @property
    def largest(self) -> float:
        """Largest magnitude of a logit."""
        return max(float(np.abs(case.logits).max()) for case in self.cases)


def ask_reference(model: GPT2, text_ids: Sequence[int]) -> Reference:
    """Run PyTorch (float32, eager attention) over everything the proof compares.

    Args:
        model: the checkpoint, an adapter at work in it if there is one.
        text_ids: token ids of real text, at least one; repeated where they are too few.
    """
    config = model.config
    context = config.n_positions
    tokens = min(PROOF_TOKENS, context)
    random = np.random.default_rng(0).integers(0, config.vocab_size, context).tolist()
    text = list(islice(cycle(text_ids), context))
    eos = _eos_token_id(config.eos_token_id, config.vocab_size)
    prompt_tokens = max(1, tokens // 2)
    with_eos = random[-tokens:]
    with_eos[prompt_tokens // 2] = with_eos[prompt_tokens - 1] = eos
    tail = min(TAIL_TOKENS, context)
    return Reference(
        whole=tuple(ask(model, ids[:tokens]) for ids in (random, text)),
        with_eos=ask(model, with_eos),
        prompt_tokens=prompt_tokens,
        context=tuple(ask(model, ids, tail) for ids in (random, text)),
        eos_token_id=eos,
        pooled=(
            ask_pooled(model, text[:tokens])
            if isinstance(model, GPT2ForSequenceClassification)
            else None
        ),
    )


def real_ids(tokenizer: PreTrainedTokenizerFast, companions: Sequence[Path]) -> list[int]:
    """Return token ids of real text: the beginning of evaluation.txt, or a few English lines."""
    text = next((f / TEXT for f in companions if (f / TEXT).is_file()), None)
    beginning = ENGLISH
    if text is not None:
        with text.open(encoding="utf-8", errors="replace") as file:
            beginning = file.read(TEXT_CHARACTERS)
    with quiet_transformers():  # it warns of texts beyond the context, which are cut
        ids = reference_ids(tokenizer, beginning)
    return ids or [0]


def ask(model: GPT2, ids: list[int], last: int = 0) -> Expected:
    """Run PyTorch over `ids`; return the logits after the last `last` of them, 0 for all.

    A classifier scores every token before it takes a text's last one.
    """
    with torch.inference_mode():
        if isinstance(model, GPT2ForSequenceClassification):
            hidden = model.transformer(torch.tensor([ids]), use_cache=False).last_hidden_state
            return Expected(ids, model.score(hidden[0, -last:]).numpy())
        logits: torch.Tensor = model(
            torch.tensor([ids]), use_cache=False, logits_to_keep=last
        ).logits[0]
    return Expected(ids, logits.numpy())


def _eos_token_id(configured: object, vocab_size: int) -> int:
    """Return the configuration's EOS, the first where it lists several; else the last id."""
    first = configured[0] if isinstance(configured, list) and configured else configured
    return first if isinstance(first, int) and 0 <= first < vocab_size else vocab_size - 1
