"""Greedy generation against transformers' generate, and where it ends."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import pocketgpt
from pocketgpt import GenerationResult, OptionError

if TYPE_CHECKING:
    from transformers import GPT2LMHeadModel

Greedy = Callable[..., list[int]]
PROMPTS = [
    "T",
    "Once upon a time",
    "The lighthouse keeper counted",
    "灯台守は",
    "💃 and the dog 🐕‍🦺!",
    "def count(ships):\n\treturn",
    "  two spaces, and at the end   ",
    "one<|endoftext|>two",
]


@pytest.mark.parametrize("prompt", PROMPTS)
def test_greedy_tokens_equal_transformers(
    tiny: pocketgpt.Model, tiny_reference: GPT2LMHeadModel, reference_greedy: Greedy, prompt: str
) -> None:
    ids = tiny.tokenizer.encode(prompt)
    expected = reference_greedy(tiny_reference, ids, max_new_tokens=40)
    result = tiny.generate(prompt, max_new_tokens=40)
    assert result.token_ids == expected
    assert result.text == tiny.tokenizer.decode(expected)


def test_greedy_text_varies(tiny: pocketgpt.Model) -> None:
    """Or equality with transformers would say little."""
    made = [tuple(tiny.generate(prompt, max_new_tokens=40).token_ids) for prompt in PROMPTS]
    assert len(set(made)) == len(PROMPTS)
    assert min(len(set(ids)) for ids in made) >= 5


def test_default_length_is_transformers(
    tiny: pocketgpt.Model, tiny_reference: GPT2LMHeadModel, reference_greedy: Greedy
) -> None:
    ids = tiny.tokenizer.encode("The ships")
    result = tiny.generate("The ships")
    assert result.token_ids == reference_greedy(tiny_reference, ids)[: len(result.token_ids)]
    assert len(result.token_ids) == 20
    assert result.finish_reason == "length"


@pytest.mark.parametrize("max_length", [12, 30])
def test_max_length_counts_the_prompt(
    tiny: pocketgpt.Model,
    tiny_reference: GPT2LMHeadModel,
    reference_greedy: Greedy,
    max_length: int,
) -> None:
    ids = tiny.tokenizer.encode("The ships")
    expected = reference_greedy(tiny_reference, ids, max_length=max_length)
    result = tiny.generate("The ships", max_length=max_length)
    assert result.token_ids == expected
    assert len(ids) + len(result.token_ids) == max_length


def test_max_new_tokens_goes_before_max_length(tiny: pocketgpt.Model) -> None:
    assert len(tiny.generate("The ships", max_length=5, max_new_tokens=7).token_ids) == 7


def test_max_length_without_room_is_refused(tiny: pocketgpt.Model) -> None:
    length = len(tiny.tokenizer.encode("The ships"))
    with pytest.raises(OptionError, match=f"max_length is {length} and the prompt alone"):
        tiny.generate("The ships", max_length=length)


@pytest.mark.parametrize("several", [False, True])
def test_stops_at_eos_as_transformers(
    tiny: pocketgpt.Model,
    tiny_reference: GPT2LMHeadModel,
    reference_greedy: Greedy,
    several: bool,
) -> None:
    ids = tiny.tokenizer.encode("Once upon a time")
    made = tiny.generate("Once upon a time", max_new_tokens=30).token_ids
    eos = [399, made[7]] if several else made[7]
    expected = reference_greedy(tiny_reference, ids, max_new_tokens=30, eos_token_id=eos)
    result = tiny.generate("Once upon a time", max_new_tokens=30, eos_token_id=eos)
    assert result.token_ids == expected == made[: made.index(made[7]) + 1]
    assert result.finish_reason == "eos"


def draw_until_eos(model: pocketgpt.Model) -> GenerationResult:
    """The first of many near-uniform draws that comes upon the end of text, token 0."""
    options: dict[str, Any] = {
        "do_sample": True,
        "temperature": 100.0,
        "top_k": 0,
        "max_new_tokens": 90,
    }
    results = (model.generate("A", seed=seed, **options) for seed in range(200))
    ended: GenerationResult = next(r for r in results if r.finish_reason == "eos")
    return ended


def test_eos_is_in_the_ids_and_not_in_the_text(tiny: pocketgpt.Model) -> None:
    result = draw_until_eos(tiny)
    assert result.token_ids.index(0) == len(result.token_ids) - 1
    assert "endoftext" not in result.text
    assert result.text == tiny.tokenizer.decode(result.token_ids[:-1])


def test_eos_of_the_folder_can_be_switched_off(tiny: pocketgpt.Model) -> None:
    result = draw_until_eos(tiny)
    end = result.token_ids[-1]
    greedy = tiny.generate("A", max_new_tokens=40, eos_token_id=None)
    assert end == 0
    assert greedy.finish_reason == "length"
    assert len(greedy.token_ids) == 40


def test_stops_at_the_end_of_the_context(
    tiny: pocketgpt.Model, tiny_reference: GPT2LMHeadModel, reference_greedy: Greedy
) -> None:
    ids = tiny.tokenizer.encode("Once upon a time")
    result = tiny.generate("Once upon a time", max_new_tokens=1000)
    assert result.finish_reason == "length"
    assert len(ids) + len(result.token_ids) == tiny.config.n_positions
    expected = reference_greedy(tiny_reference, ids, max_length=tiny.config.n_positions)
    assert result.token_ids == expected


def prompt_of(model: pocketgpt.Model, tokens: int) -> str:
    """A prompt of so many tokens."""
    prompt = "Q" * tokens
    assert len(model.tokenizer.encode(prompt)) == tokens
    return prompt


def test_prompt_as_long_as_the_context(tiny: pocketgpt.Model) -> None:
    """It fits, and nothing fits after it."""
    result = tiny.generate(prompt_of(tiny, 96))
    assert (result.text, result.token_ids, result.finish_reason) == ("", [], "length")
    assert len(tiny.generate(prompt_of(tiny, 95)).token_ids) == 1


def test_prompt_longer_than_the_context_is_refused(tiny: pocketgpt.Model) -> None:
    for generate in (tiny.generate, tiny.stream):
        with pytest.raises(OptionError, match="prompt has 97 tokens, the model's context is 96"):
            generate(prompt_of(tiny, 97), max_new_tokens=1)


def test_empty_prompt_starts_from_bos(
    tiny: pocketgpt.Model, tiny_reference: GPT2LMHeadModel, reference_greedy: Greedy
) -> None:
    expected = reference_greedy(tiny_reference, [0], max_new_tokens=25)
    result = tiny.generate("", max_new_tokens=25)
    assert result.token_ids == expected
    assert result.timings.prompt_tokens == 1


def test_empty_prompt_without_bos_is_refused(tiny_copy: Path) -> None:
    (tiny_copy / "generation_config.json").write_text('{"eos_token_id": 0}', "utf-8")
    model = pocketgpt.load(tiny_copy, "fp32")
    with pytest.raises(OptionError, match="empty prompt needs a bos_token_id"):
        model.generate("")
    assert model.generate("", bos_token_id=0).token_ids


@pytest.mark.parametrize("prompt", [None, 5, b"bytes", ["a", 1]])
def test_prompt_that_is_no_text_is_refused(tiny: pocketgpt.Model, prompt: object) -> None:
    with pytest.raises(OptionError, match="prompt"):
        tiny.generate(prompt)  # type: ignore[call-overload]


def test_the_folders_generation_config_holds(tiny_copy: Path) -> None:
    settings = {"max_new_tokens": 3, "eos_token_id": None, "renormalize_logits": None}
    (tiny_copy / "generation_config.json").write_text(json.dumps(settings), "utf-8")
    model = pocketgpt.load(tiny_copy, "fp32")
    assert len(model.generate("The ships").token_ids) == 3
    assert len(model.generate("The ships", max_new_tokens=5).token_ids) == 5


def test_without_generation_config_the_token_ids_are_configs(tiny_copy: Path) -> None:
    (tiny_copy / "generation_config.json").unlink()
    model = pocketgpt.load(tiny_copy, "fp32")
    assert model.generate("", max_new_tokens=4).token_ids
    assert draw_until_eos(model).finish_reason == "eos"


def test_timings_count_tokens(tiny: pocketgpt.Model) -> None:
    timings = tiny.generate("The ships", max_new_tokens=6).timings
    assert timings.prompt_tokens == len(tiny.tokenizer.encode("The ships"))
    assert timings.new_tokens == 6
    assert timings.time_to_first_token > 0
    assert timings.tokens_per_second == 5 / timings.decode_seconds
    assert tiny.generate("The ships", max_new_tokens=1).timings.tokens_per_second is None


@pytest.mark.parametrize("variant", ["int8", "q4"])
def test_quantized_variants_generate(tiny_folder: Path, variant: str) -> None:
    """Cached and uncached tokens agree where the tolerance does not cover the margin."""
    model = pocketgpt.load(tiny_folder, variant)
    tolerance = model.manifest.variant(variant).tolerance
    assert tolerance is not None
    ids = model.tokenizer.encode("The ships")
    result = model.generate("The ships", max_new_tokens=20)
    for count, token_id in enumerate(result.token_ids):
        uncached = model.new_decoder().prefill([*ids, *result.token_ids[:count]])[0]
        assert uncached[token_id] >= uncached.max() - tolerance
