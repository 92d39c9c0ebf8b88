"""generation_config.json as other programs leave it, read with the folder and heeded or named."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from transformers import GenerationConfig, GPT2LMHeadModel

import pocketgpt
from pocketgpt import OptionError
from pocketgpt.generation.folder_defaults import UNHEEDED, default_remarks, usable_defaults
from pocketgpt.generation.option_fields import OptionFields

from ..conftest import Cli

PROMPT = "The lighthouse keeper"
# What transformers has in a GenerationConfig that says nothing about which tokens come: what is
# returned with them, caches, speed, padding, and what only an encoder-decoder reads.
OTHERS = {
    *("output_attentions", "output_hidden_states", "output_scores", "output_logits"),
    *("return_dict_in_generate", "return_legacy_cache", "use_cache", "cache_implementation"),
    *("cache_config", "prefill_chunk_size", "low_memory", "disable_compile", "compile_config"),
    *("pad_token_id", "decoder_start_token_id", "is_assistant"),
    *("num_assistant_tokens_schedule", "assistant_early_exit", "assistant_lookbehind"),
    *("max_matching_ngram_size",),
    *("target_lookbehind", "_from_model_config", "transformers_version"),
}


def write(folder: Path, **fields: Any) -> None:
    settings = {"eos_token_id": 0, "bos_token_id": 0, "max_new_tokens": 6, **fields}
    (folder / "generation_config.json").write_text(json.dumps(settings), "utf-8")


def test_every_field_of_transformers_is_an_option_or_named() -> None:
    known = {field.name for field in dataclasses.fields(OptionFields)}
    assert known & UNHEEDED.keys() == set()
    assert GenerationConfig().to_dict().keys() - known - UNHEEDED.keys() <= OTHERS


def test_what_says_nothing_is_not_named() -> None:
    """transformers' own defaults, and values with which its processors are left out."""
    assert list(default_remarks(GenerationConfig().to_dict(), 100)) == []
    neutral = {"guidance_scale": 1.0, "num_beam_groups": 1, "epsilon_cutoff": 0.0, "of_ours": 3}
    assert list(default_remarks({**neutral, "suppress_tokens": [5, 99.0]}, 100)) == []


@pytest.mark.parametrize("name", ["guidance_scale", "penalty_alpha", "begin_suppress_tokens"])
def test_what_is_not_heeded_is_named(name: str) -> None:
    value = [4, 7] if name.endswith("tokens") else 1.5
    (remark,) = default_remarks({name: value, "top_k": 4}, 100)
    assert remark.startswith(f"{name} (")


@pytest.mark.parametrize(
    ("found", "usable"),
    [
        ({"max_new_tokens": 12.0, "top_k": 7.0}, {"max_new_tokens": 12, "top_k": 7}),
        ({"eos_token_id": -1, "bos_token_id": 50256}, {}),
        ({"eos_token_id": [3.0, 50256]}, {"eos_token_id": [3]}),
        ({"eos_token_id": [-1]}, {}),
        ({"suppress_tokens": [-1, 5, 100]}, {"suppress_tokens": [5]}),
        ({"bad_words_ids": [[5, 6], [7, 100]]}, {"bad_words_ids": [[5, 6]]}),
        ({"sequence_bias": [[[300], 8.0], [[3], 2.5]]}, {"sequence_bias": [[[3], 2.5]]}),
        ({"logit_bias": {"99": 1.5, "100": 2.5}}, {"logit_bias": {"99": 1.5}}),
        ({"forced_eos_token_id": 100, "temperature": None}, {}),
        ({"exponential_decay_length_penalty": [5.0, 1.5]},) * 2,
        ({"eos_token_id": "end", "max_length": 2.5},) * 2,  # refused where they are used
        ({"transformers_version": "5.0", "logits_processor": ["x"]}, {}),
    ],
)
def test_usable_defaults(found: dict[str, Any], usable: dict[str, Any]) -> None:
    assert usable_defaults(found, 100) == usable


HARMLESS: dict[str, dict[str, Any]] = {
    "a temperature of 0": {"temperature": 0.0},
    "a top_p of 0": {"top_p": 0, "do_sample": False},
    "a whole number": {"max_new_tokens": 6.0, "num_beams": 1.0},
    "no end": {"eos_token_id": -1},
    "GPT-2's ids": {"eos_token_id": 50256, "bos_token_id": 50256, "pad_token_id": 50256},
    "ids to suppress": {"suppress_tokens": [50256, 13]},
    "beams' values": {"length_penalty": 50.0, "early_stopping": "sometimes"},
}


@pytest.mark.parametrize("case", HARMLESS)
def test_no_call_fails(
    case: str,
    tiny_copy: Path,
    tiny_checkpoint: Path,
    reference_greedy: Callable[..., list[int]],
    tiny_reference: GPT2LMHeadModel,
) -> None:
    write(tiny_copy, **HARMLESS[case])
    model = pocketgpt.load(tiny_copy, "fp32")
    heeded = {name: HARMLESS[case][name] for name in ("suppress_tokens",) if name in HARMLESS[case]}
    ends = {"eos_token_id": None if "eos_token_id" in HARMLESS[case] else 0}
    ids = model.tokenizer.encode(PROMPT)
    expected = reference_greedy(
        tiny_reference, ids, max_new_tokens=6, **ends, **_within(heeded, model.config.vocab_size)
    )
    assert model.generate(PROMPT).token_ids == expected


def _within(fields: dict[str, list[int]], size: int) -> dict[str, list[int]]:
    return {name: [i for i in ids if i < size] for name, ids in fields.items()}


def test_bos_that_no_token_has_is_told_where_it_is_used(tiny_copy: Path, cli: Cli) -> None:
    write(tiny_copy, bos_token_id=50256)
    model = pocketgpt.load(tiny_copy, "fp32")
    assert model.generate(PROMPT).token_ids
    calls: dict[str, Callable[[], object]] = {
        "a text": lambda: model.generate(""),
        "a batch": lambda: model.generate([PROMPT, ""]),
        "a session": lambda: model.session().generate(max_new_tokens=2),
    }
    for call in calls.values():
        with pytest.raises(OptionError, match=r"generation_config\.json names none that is in"):
            call()
    assert model.generate("", bos_token_id=0).token_ids
    done = cli("generate", tiny_copy, "", "--variant", "fp32")
    assert done.returncode == 2
    assert "Traceback" not in done.stderr


def test_what_a_call_then_reads_names_the_file(tiny_copy: Path) -> None:
    write(tiny_copy, temperature=0.0)
    model = pocketgpt.load(tiny_copy, "fp32")
    with pytest.raises(OptionError, match=r"generation_config\.json: temperature should be above"):
        model.generate(PROMPT, do_sample=True)
    assert model.generate(PROMPT, do_sample=True, temperature=0.7, seed=1).token_ids
    with pytest.raises(OptionError, match=r"^eos_token_id has token id 50256"):
        model.generate(PROMPT, eos_token_id=50256)


@pytest.mark.parametrize(
    "fields",
    [
        {"num_beams": 4},
        {"num_return_sequences": 2, "do_sample": True},
        {"context_overflow": "reprefill"},
    ],
    ids=lambda fields: next(iter(fields)),
)
def test_what_a_session_cannot_do_is_the_folders(tiny_copy: Path, fields: dict[str, Any]) -> None:
    write(tiny_copy, **fields)
    session = pocketgpt.load(tiny_copy, "fp32").session()
    session.append(PROMPT)
    name = next(iter(fields))
    with pytest.raises(OptionError, match=rf"^the folder's generation_config.json: .*{name}"):
        session.generate()
    only: dict[str, Any] = {name: "stop" if name == "context_overflow" else 1}
    assert len(session.generate(**only).token_ids) == 6
