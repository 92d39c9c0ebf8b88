"""Ranking continuations: log-probabilities against PyTorch's, tokens as lm-evaluation-harness."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch

import pocketgpt
from pocketgpt import Choice, Choices, OptionError
from pocketgpt.tasks.choose import encode_choices, log_probs

if TYPE_CHECKING:
    from transformers import GPT2LMHeadModel

PROMPT = "The lighthouse keeper counted"
CHOICES = [" the ships as they came", " boats", " 船を数えた。明日は", " 🕺💃", "."]


def encode_pair(tokenizer: Any, context: str, continuation: str) -> tuple[list[int], list[int]]:
    """Tokens as `TemplateLM._encode_pair` of lm-evaluation-harness splits them."""
    spaces = len(context) - len(context.rstrip())
    if spaces:
        context, continuation = context[:-spaces], context[-spaces:] + continuation
    context_ids = tokenizer(context)["input_ids"]
    return context_ids, tokenizer(context + continuation)["input_ids"][len(context_ids) :]


def reference_log_prob(model: GPT2LMHeadModel, context: Sequence[int], ids: Sequence[int]) -> float:
    with torch.inference_mode():
        logits = model(torch.tensor([[*context, *ids][:-1]])).logits[0]
    rows = logits.log_softmax(-1)[len(context) - 1 :]
    return float(rows.gather(1, torch.tensor(ids)[:, None]).sum())


@pytest.fixture(scope="module")
def tokenizer(tiny_checkpoint: Path) -> Any:
    from transformers import GPT2TokenizerFast

    return GPT2TokenizerFast.from_pretrained(tiny_checkpoint)


@pytest.mark.parametrize("prompt", [PROMPT, f"{PROMPT} ", f"{PROMPT}\n\n  ", "灯台守は"])
@pytest.mark.parametrize("batch_size", [1, 2, 16])
def test_log_probs_are_pytorchs(
    tiny: pocketgpt.Model,
    tiny_reference: GPT2LMHeadModel,
    tokenizer: Any,
    prompt: str,
    batch_size: int,
) -> None:
    found = tiny.choose(prompt, CHOICES, batch_size=batch_size)
    pairs = [encode_pair(tokenizer, prompt, choice) for choice in CHOICES]
    expected = [reference_log_prob(tiny_reference, *pair) for pair in pairs]
    assert [one.log_prob for one in found.choices] == pytest.approx(expected, abs=5e-4)
    assert [one.tokens for one in found.choices] == [len(ids) for _, ids in pairs]
    assert found.index == expected.index(max(expected))
    assert found.text == CHOICES[found.index]


@pytest.mark.parametrize("prompt", ["", " ", "\n"])
def test_an_empty_prompt_is_the_bos_token(
    tiny: pocketgpt.Model, tiny_reference: GPT2LMHeadModel, tokenizer: Any, prompt: str
) -> None:
    found = tiny.choose(prompt, ["The ships", "A boat"])
    ids = tokenizer([f"{prompt}The ships", f"{prompt}A boat"])["input_ids"]
    expected = [reference_log_prob(tiny_reference, [0], each) for each in ids]
    assert [one.log_prob for one in found.choices] == pytest.approx(expected, abs=5e-4)


def test_the_prompt_is_read_once(tiny: pocketgpt.Model) -> None:
    prompt_ids, continuations = encode_choices(tiny, PROMPT, CHOICES)
    for slots in (1, 2, len(CHOICES)):
        decoder = tiny.new_decoder(slots)
        log_probs(decoder, prompt_ids, continuations)
        read = sum(len(ids) - 1 for ids in continuations)
        assert decoder.evaluated_tokens == len(prompt_ids) + read


def test_portable_and_quantized_graphs_choose(
    tiny_checkpoint: Path, tiny_folder: Path, tiny: pocketgpt.Model, tmp_path: Path
) -> None:
    from pocketgpt_export import export

    export(tiny_checkpoint, tmp_path / "portable", graph="portable")
    expected = tiny.choose(PROMPT, CHOICES)
    portable = pocketgpt.load(tmp_path / "portable").choose(PROMPT, CHOICES)
    assert portable.scores == pytest.approx(expected.scores, abs=5e-4)
    int8 = pocketgpt.load(tiny_folder, "int8")
    tolerance = int8.manifest.variants["int8"].tolerance
    assert tolerance is not None
    one, other = (int8.choose(PROMPT, CHOICES, batch_size=size) for size in (1, 16))
    longest = max(choice.tokens for choice in one.choices)
    assert one.scores == pytest.approx(other.scores, abs=2 * tolerance * longest)


def test_comparing_by_hand() -> None:
    """-6 over 12 bytes and 2 tokens against -4 over 2 bytes and 1 token."""
    long, short = Choice(" twelve bytes", -6.0, 2, 12), Choice(" ab", -4.0, 1, 2)
    plain = Choices.of([long, short], "none")
    assert (plain.index, plain.text, plain.scores) == (1, " ab", (-6, -4))
    assert plain.ranked == (short, long)
    by_bytes = Choices.of([long, short], "bytes")
    assert (by_bytes.index, by_bytes.scores) == (0, (-0.5, -2))
    assert Choices.of([long, short], "tokens").scores == (-3, -4)
    assert Choices.of([short, short], "none").index == 0


def test_bytes_leave_out_the_space_in_front(tiny: pocketgpt.Model) -> None:
    found = tiny.choose(PROMPT, [" naïve", "\n", "灯"], normalization="bytes")
    assert [one.bytes for one in found.choices] == [6, 1, 3]
    assert found.scores == pytest.approx(
        [one.log_prob / one.bytes for one in found.choices], rel=1e-12
    )


def test_a_choice_may_fill_the_context(
    tiny: pocketgpt.Model, tiny_reference: GPT2LMHeadModel
) -> None:
    """The last token is predicted, not read: 97 tokens fit a context of 96."""
    ids = tiny.tokenizer.encode("ships and boats and nets " * 20)
    decoder = tiny.new_decoder()
    (found,) = log_probs(decoder, ids[:10], [ids[10:97]])
    expected = reference_log_prob(tiny_reference, ids[:10], ids[10:97])
    assert found == pytest.approx(expected, abs=5e-3)
    assert decoder.lengths[0] == 96


@pytest.mark.parametrize(
    ("prompt", "choices", "options", "message"),
    [
        (PROMPT, [], {}, "choices should be a list of strings, at least one"),
        (PROMPT, "abc", {}, "choices should be a list of strings"),
        (PROMPT, [" a", 5], {}, "a choice should be a string, not int"),
        (5, [" a"], {}, "prompt should be a string, not int"),
        (PROMPT, [" a", ""], {}, "choice 2 has no token of its own"),
        (PROMPT, [" a", " ships and boats" * 60], {}, r"the prompt and choice 2 have \d+ tokens"),
        (" ships and boats" * 60, [" a"], {}, "the prompt and choice 1 have"),
        (PROMPT, [" a"], {"normalization": "byte"}, "normalization should be one of 'none'"),
        (PROMPT, [" a"], {"batch_size": 0}, "batch_size should be"),
        (PROMPT, [" a"], {"adapter": "x"}, "no adapter 'x' was loaded"),
    ],
)
def test_what_cannot_be_compared_is_refused_in_one_line(
    tiny: pocketgpt.Model, prompt: Any, choices: Any, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(OptionError, match=message) as caught:
        tiny.choose(prompt, choices, **options)
    assert "\n" not in str(caught.value)


def test_log_probs_of_two_tokens_by_hand() -> None:
    """A model that gives every token the logits 0, log 3: probabilities 1/4 and 3/4."""
    import numpy as np

    class Even:
        slots = 2

        def reserve(self, _: int) -> None: ...
        def rewind(self, _: int) -> None: ...
        def copy_slot(self, *_: int, end: int) -> None: ...
        def prefill(self, _: Sequence[int]) -> Any:
            return self.step([0])

        def step(self, ids: Sequence[int]) -> Any:
            return np.array([[0, math.log(3)]] * len(ids), np.float32)

    found = log_probs(Even(), [0], [[1, 0], [1]])  # type: ignore[arg-type]
    assert found == pytest.approx([math.log(3 / 16), math.log(3 / 4)])
