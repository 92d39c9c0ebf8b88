"""Processors of the user's own: what they are called with, where they stand, what is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from transformers import GPT2LMHeadModel, LogitsProcessor, LogitsProcessorList

import pocketgpt
from pocketgpt import OptionError

Ids = NDArray[np.int64]
Logits = NDArray[np.float32]


def rotated(ids: Any, logits: Any) -> Any:
    """Depends on both arguments: every fifth token, from the last one on, gets less likely."""
    start = int(ids[-1]) % 5
    logits[start::5] -= 3
    return logits


class Rotated(LogitsProcessor):  # type: ignore[misc,unused-ignore]
    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        rows = [
            torch.tensor(rotated(ids.numpy(), row.numpy().copy()))
            for ids, row in zip(input_ids, scores, strict=True)
        ]
        return torch.stack(rows)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"repetition_penalty": 1.5, "no_repeat_ngram_size": 2},
        {"num_beams": 3},
        {"num_beams": 4, "repetition_penalty": 1.3, "num_return_sequences": 2},
    ],
    ids=str,
)
def test_equals_transformers_with_the_same_function(
    tiny: pocketgpt.Model, tiny_reference: GPT2LMHeadModel, options: dict[str, Any]
) -> None:
    ids = torch.tensor([tiny.tokenizer.encode("The ships")])
    expected: Any = tiny_reference.generate(
        ids,
        attention_mask=torch.ones_like(ids),
        pad_token_id=0,
        max_new_tokens=16,
        logits_processor=LogitsProcessorList([Rotated()]),
        **options,
    )
    made: Any = tiny.generate("The ships", max_new_tokens=16, logits_processor=[rotated], **options)
    plain: Any = tiny.generate("The ships", max_new_tokens=16, **options)
    for result, row in zip(made if isinstance(made, list) else [made], expected, strict=True):
        new = row[ids.shape[1] :].tolist()
        assert result.token_ids == new[: len(result.token_ids)]
    assert made != plain


def test_called_before_what_only_drawing_asks_for(tiny: pocketgpt.Model) -> None:
    """top_k 1 leaves what the function made the likeliest."""
    wanted = 77

    def only_one(ids: Ids, logits: Logits) -> Logits:
        assert np.isfinite(logits).all()  # nothing is cut yet
        return np.where(np.arange(len(logits)) == wanted, logits.max() + 1, logits)

    result = tiny.generate(
        "A", do_sample=True, top_k=1, max_new_tokens=3, logits_processor=[only_one]
    )
    assert result.token_ids == [wanted] * 3


def test_gets_every_rows_own_ids_which_cannot_be_changed(tiny: pocketgpt.Model) -> None:
    seen: list[list[int]] = []

    def watch(ids: Ids, logits: Logits) -> Logits:
        assert ids.dtype == np.dtype(np.int64)
        assert logits.dtype == np.dtype(np.float32)
        assert not ids.flags.writeable
        seen.append(ids.tolist())
        return logits

    prompts = ["A", "The ships came home"]
    results = tiny.generate(prompts, max_new_tokens=3, eos_token_id=[], logits_processor=[watch])
    for prompt, result in zip(prompts, results, strict=True):
        text = [*tiny.tokenizer.encode(prompt), *result.token_ids]
        for new in range(3):
            assert text[: len(text) - 3 + new] in seen
    assert len(seen) == 6


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (lambda logits: logits[:-1], r"should return logits of shape \(\d+,\), not \(\d+,\)"),
        (lambda logits: logits[None], "should return logits of shape"),
        (lambda logits: None, "should return logits of shape|returned no logits"),
        (lambda logits: "abc", "returned no logits but str"),
        (lambda logits: logits * np.float32("nan"), "returned logits with NaN"),
    ],
)
def test_an_answer_that_is_none_is_one_line(
    tiny: pocketgpt.Model, answer: Any, message: str
) -> None:
    def broken(ids: Ids, logits: Logits) -> Any:
        return answer(logits)

    with pytest.raises(OptionError, match=f"^logits_processor broken .*({message})") as caught:
        tiny.generate("A", logits_processor=[broken])
    assert "\n" not in str(caught.value)


def test_the_logits_reported_are_the_models_own(tiny: pocketgpt.Model) -> None:
    plain = tiny.generate("A", max_new_tokens=1, logprobs=3)
    shaped = tiny.generate("A", max_new_tokens=1, logprobs=3, logits_processor=[rotated])
    assert plain.logprobs is not None
    assert shaped.logprobs is not None
    assert shaped.logprobs[0].top == plain.logprobs[0].top
