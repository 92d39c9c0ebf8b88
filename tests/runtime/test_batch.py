"""Batches: every row as if it were alone, in order, in bounded memory."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import pocketgpt
from pocketgpt import OptionError
from pocketgpt.engine.decoder import Decoder
from pocketgpt.generation import scheduler

from .conftest import EOS, Reference

PROMPTS = [
    "The quick brown fox jumps over the lazy dog and",
    "A",
    "naïve café",
    "",
    "runs home again. The quick brown fox jumps over",
]
SAMPLED: dict[str, Any] = {"do_sample": True, "temperature": 1.4, "top_p": 0.9, "seed": 3}


@pytest.mark.parametrize("batch_size", [2, 3, 16])
@pytest.mark.parametrize("options", [{}, SAMPLED], ids=["greedy", "sampled"])
def test_rows_equal_each_prompt_alone(
    model: pocketgpt.Model, options: dict[str, Any], batch_size: int
) -> None:
    alone = [model.generate(prompt, max_new_tokens=30, **options) for prompt in PROMPTS]
    together = model.generate(PROMPTS, max_new_tokens=30, batch_size=batch_size, **options)
    for one, row in zip(alone, together, strict=True):
        assert (row.token_ids, row.text) == (one.token_ids, one.text)
        assert row.finish_reason == one.finish_reason
    assert len({len(result.token_ids) for result in together}) > 1  # rows left the batch


def test_greedy_rows_equal_transformers(model: pocketgpt.Model, reference: Reference) -> None:
    prompts = [prompt for prompt in PROMPTS if prompt]
    for result, prompt in zip(model.generate(prompts, max_new_tokens=20), prompts, strict=True):
        ((expected, _),) = reference(prompt, max_new_tokens=20, do_sample=False)
        assert result.token_ids == expected


def test_one_pass_equals_each_row_alone(model: pocketgpt.Model) -> None:
    prompts = [[7, 8, 9, 10, 11], [12], [13, 14, 15]]
    together = model.new_decoder(3)
    logits = together.fill(prompts)
    assert together.evaluated_tokens == 9
    for row, prompt in enumerate(prompts):
        alone = model.new_decoder()
        np.testing.assert_allclose(alone.prefill(prompt)[0], logits[row], atol=1e-5)
        np.testing.assert_allclose(alone.prefill([5])[0], together_row(model, prompt), atol=1e-5)


def together_row(model: pocketgpt.Model, prompt: list[int]) -> Any:
    """The logits after `prompt` and token 5, in a batch with a longer row and a shorter one."""
    batch = model.new_decoder(3)
    batch.fill([[*prompt, 1, 2, 3], prompt, [4]])
    return batch.step([5, 5, 5])[1].copy()


def test_long_prompts_go_in_chunks_of_their_own(
    model: pocketgpt.Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = [result.token_ids for result in model.generate(PROMPTS, max_new_tokens=12)]
    monkeypatch.setattr(scheduler, "CHUNKS_TOGETHER", 3)
    monkeypatch.setattr("pocketgpt.engine.decoder.PREFILL_CHUNK", 3)
    found = [result.token_ids for result in model.generate(PROMPTS, max_new_tokens=12)]
    assert found == expected


def test_every_row_has_its_own_options(model: pocketgpt.Model) -> None:
    own: list[dict[str, Any]] = [
        {"max_new_tokens": 3},
        {"do_sample": True, "seed": 9, "temperature": 2.0},
        {"repetition_penalty": 1.5, "no_repeat_ngram_size": 2},
        {"num_beams": 3, "num_return_sequences": 2},
        {"do_sample": True, "seed": 9, "num_return_sequences": 2, "top_k": 5},
    ]
    shared: dict[str, Any] = {"max_new_tokens": 15, "min_new_tokens": 2}
    together = model.generate(PROMPTS, options=own, **shared)
    expected: list[Any] = []
    for prompt, options in zip(PROMPTS, own, strict=True):
        made: Any = model.generate(prompt, **{**shared, **options})
        expected += made if isinstance(made, list) else [made]
    assert [r.token_ids for r in together] == [r.token_ids for r in expected]
    assert len(together) == 7


def test_returned_sequences_are_draws_of_their_own(model: pocketgpt.Model) -> None:
    several: Any = model.generate("A", num_return_sequences=4, max_new_tokens=12, **SAMPLED)
    assert len({tuple(result.token_ids) for result in several}) > 1
    alone = model.generate("A", max_new_tokens=12, **SAMPLED)
    assert several[0].token_ids == alone.token_ids
    again: Any = model.generate(
        ["naïve", "A"], num_return_sequences=4, max_new_tokens=12, batch_size=3, **SAMPLED
    )
    assert [r.token_ids for r in again[4:]] == [r.token_ids for r in several]


def test_a_stream_of_several_names_the_text_of_each_piece(model: pocketgpt.Model) -> None:
    stream = model.stream(PROMPTS, max_new_tokens=20, batch_size=2)
    texts = [""] * len(PROMPTS)
    for index, piece in stream:
        assert piece
        texts[index] += piece
    assert stream.result is not None
    assert texts == [result.text for result in stream.result]
    called: list[tuple[int, str]] = []
    model.generate(PROMPTS, max_new_tokens=20, on_piece=lambda *piece: called.append(piece))
    assert ["".join(piece for i, piece in called if i == n) for n in range(5)] == texts


def test_64_ragged_prompts_stay_within_the_batch_size(
    model: pocketgpt.Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[int] = []
    original = type(model).new_decoder

    def decoder(self: pocketgpt.Model, slots: int = 1, adapter: str | None = None) -> Decoder:
        sizes.append(slots)
        return original(self, slots, adapter)

    monkeypatch.setattr(type(model), "new_decoder", decoder)
    prompts = ["a b c d e f g h"[: 1 + n % 15] for n in range(64)]
    results = model.generate(prompts, max_new_tokens=4)
    assert sizes == [16]
    alone = {prompt: model.generate(prompt, max_new_tokens=4).token_ids for prompt in set(prompts)}
    assert [result.token_ids for result in results] == [alone[prompt] for prompt in prompts]


def test_a_row_that_cannot_go_on_leaves_the_others(model: pocketgpt.Model) -> None:
    full = "z " * 32  # fills the context of 64
    assert len(model.tokenizer.encode(full)) == 64
    results = model.generate([full, "A", full], max_new_tokens=5, eos_token_id=[])
    assert [result.finish_reason for result in results] == ["length", "length", "length"]
    assert [len(result.token_ids) for result in results] == [0, 5, 0]
    assert results[1].token_ids == model.generate("A", max_new_tokens=5, eos_token_id=[]).token_ids


def test_an_overflowing_context_is_computed_afresh(model: pocketgpt.Model) -> None:
    """Every token follows from its first `keep` and newest half, by a fresh pass over them."""
    options: dict[str, Any] = {
        "context_overflow": "reprefill",
        "keep": 3,
        "eos_token_id": [],
        "max_new_tokens": 99,
    }
    rows = model.generate(["A dog", "naïve café"], **options)
    for prompt, row in zip(["A dog", "naïve café"], rows, strict=True):
        ids, made, context = model.tokenizer.encode(prompt), 0, 0
        seen = ids
        for token_id in row.token_ids:
            if len(seen) == 65:
                seen = ids[:3] + (ids + row.token_ids[:made])[-32:]
                context += 1
            assert int(model.new_decoder().prefill(seen)[0].argmax()) == token_id
            seen, made = [*seen, token_id], made + 1
        assert (row.reprefills, len(row.token_ids), row.finish_reason) == (context, 99, "length")
        assert context == 2
        assert model.generate(prompt, **options).token_ids == row.token_ids
    stopped = model.generate("A dog", max_new_tokens=99, eos_token_id=[])
    assert (stopped.finish_reason, stopped.reprefills) == ("length", 0)
    assert len(stopped.token_ids) + len(model.tokenizer.encode("A dog")) == 64


def test_no_prompts_give_no_results(model: pocketgpt.Model) -> None:
    assert model.generate([]) == []


@pytest.mark.parametrize(
    ("call", "message"),
    [
        ({"batch_size": 0}, "batch_size should be"),
        ({"options": [{}]}, "options has 1 entries for 2"),
        ({"options": [{}, {"top_q": 1}]}, "unknown option top_q"),
        ({"options": {}}, "options should be a list"),
        ({"suppress_tokens": [10_000]}, "suppress_tokens has token id 10000"),
        ({"context_overflow": "reprefill", "keep": 32}, "keep is 32"),
    ],
)
def test_bad_calls_are_refused(model: pocketgpt.Model, call: dict[str, Any], message: str) -> None:
    with pytest.raises(OptionError, match=message):
        model.generate(["A", "B"], **call)


def test_an_end_is_in_the_ids_and_not_in_the_text(model: pocketgpt.Model) -> None:
    ended = [r for r in model.generate(PROMPTS, max_new_tokens=50) if r.finish_reason == "eos"]
    assert ended
    assert all(r.token_ids[-1] in EOS and not {*EOS} & {*r.token_ids[:-1]} for r in ended)
