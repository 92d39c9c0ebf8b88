"""Which of several texts goes on best after a prompt, by log-probability.

How a language model without a head of its own answers multiple-choice questions and classifies.
Tokens are split between prompt and choice as lm-evaluation-harness does
(`TemplateLM._encode_pair`, https://github.com/EleutherAI/lm-evaluation-harness): spaces that end
the prompt begin the choice, and a choice's tokens are those of both together behind the prompt's.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal, get_args

import numpy as np

from .. import validate
from ..engine.decoder import Decoder, check_largest
from ..errors import OptionError
from ..generation.generator import BATCH_SIZE, TextGenerator
from ..generation.processors import Logits, log_softmax

Normalization = Literal["none", "bytes", "tokens"]
Encoded = tuple[list[int], list[list[int]]]
"""A prompt's token ids, and those of each choice behind it."""


@dataclass(frozen=True)
class Choice:
    """One continuation.

    Attributes:
        text: as it was given.
        log_prob: the natural log-probability of its tokens after the prompt, summed.
        tokens: how many they are.
        bytes: of its text in UTF-8, without the white space that begins it, which is between the
            two and no choice's own.
    """

    text: str
    log_prob: float
    tokens: int
    bytes: int

    def score(self, normalization: Normalization) -> float:
        """Return the log-probability: as it is, for each byte, or for each token."""
        return (
            self.log_prob / {"none": 1, "bytes": self.bytes, "tokens": self.tokens}[normalization]
        )


@dataclass(frozen=True)
class Choices:
    """Continuations of a prompt, compared.

    Attributes:
        index: which one is the best; of equal ones the first.
        text: its text.
        normalization: what they were compared by.
        choices: all, in the order in which they were given.
    """

    index: int
    text: str
    normalization: Normalization
    choices: tuple[Choice, ...]

    @classmethod
    def of(cls, choices: Sequence[Choice], normalization: Normalization) -> Choices:
        """Compare choices, at least one."""
        scores = [choice.score(normalization) for choice in choices]
        best = scores.index(max(scores))
        return cls(best, choices[best].text, normalization, tuple(choices))

    @property
    def scores(self) -> tuple[float, ...]:
        """What they were compared by, in the order in which they were given."""
        return tuple(choice.score(self.normalization) for choice in self.choices)

    @property
    def ranked(self) -> tuple[Choice, ...]:
        """All, the best first."""
        return tuple(sorted(self.choices, key=lambda choice: -choice.score(self.normalization)))


def choose(
    model: TextGenerator,
    prompt: object,
    choices: object,
    normalization: Normalization = "none",
    batch_size: int = BATCH_SIZE,
    adapter: str | None = None,
) -> Choices:
    """Compare continuations of a prompt; see `Model.choose`."""
    model.check_task("text-generation")
    validate.one_of("normalization", normalization, get_args(Normalization))
    validate.whole("batch_size", batch_size, at_least=1)
    own_prompt, *texts = _checked(prompt, choices)
    encoded = encode_choices(model, own_prompt, texts)
    return Choices.of(measured(model, texts, encoded, batch_size, adapter), normalization)


def measured(
    model: TextGenerator,
    texts: Sequence[str],
    encoded: Encoded,
    batch_size: int = BATCH_SIZE,
    adapter: str | None = None,
) -> list[Choice]:
    """Return the choices `texts`, which `encode_choices` has encoded, with their figures."""
    prompt_ids, continuations = encoded
    decoder = model.new_decoder(min(batch_size, len(continuations)), adapter)
    sums = log_probs(decoder, prompt_ids, continuations)
    return [
        Choice(text, log_prob, len(ids), len((text.lstrip() or text).encode("utf-8")))
        for text, log_prob, ids in zip(texts, sums, continuations, strict=True)
    ]


def _checked(prompt: object, choices: object) -> list[str]:
    """Return the prompt and the choices as one list of strings."""
    if isinstance(choices, str) or not isinstance(choices, Sequence) or not choices:
        raise validate.refused("choices", "a list of strings, at least one", choices)
    for name, text in [("prompt", prompt), *(("a choice", one) for one in choices)]:
        if not isinstance(text, str):
            raise OptionError(f"{name} should be a string, not {type(text).__name__}")
    return [prompt, *choices]


def encode_choices(model: TextGenerator, prompt: str, choices: Sequence[str]) -> Encoded:
    """Return the prompt's token ids and each choice's own.

    An empty prompt is the BOS token, as for `generate`.

    Raises:
        OptionError: a choice has no tokens of its own, or is too long together with the prompt; or
            the prompt is empty, and the folder has no BOS token.
    """
    encode = partial(model.tokenizer.encode, add_special_tokens=False)
    context = prompt.rstrip()
    moved = prompt[len(context) :]
    before, _ = model.tokenizer.frame
    prompt_ids = before + encode(context)
    own = len(prompt_ids) - len(before)
    prompt_ids = prompt_ids or [model.resolve({}).start_token("an empty prompt")]
    continuations = [encode(context + moved + choice)[own:] for choice in choices]
    for number, ids in enumerate(continuations, 1):
        if not ids:
            raise OptionError(
                f"choice {number} has no token of its own after the prompt: it is empty, or both "
                "make one token together; begin it with a space, or end the prompt before a word"
            )
        total = len(prompt_ids) + len(ids) - 1  # the last one is predicted, not read
        if total > model.config.n_positions:
            raise OptionError(
                f"the prompt and choice {number} have {total + 1} tokens, the model's context is "
                f"{model.config.n_positions}, and one more that it predicts; shorten them"
            )
    return prompt_ids, continuations


def log_probs(
    decoder: Decoder, prompt_ids: Sequence[int], continuations: Sequence[Sequence[int]]
) -> list[float]:
    """Return the summed natural log-probability of each continuation of a prompt, read once.

    Short ones go token by token, side by side in the decoder's slots; where they have more tokens
    than there are rows, one pass for each takes fewer.
    """
    longest = max(map(len, continuations))
    decoder.reserve(len(prompt_ids) + longest - 1)
    first = _log_softmax(decoder.prefill(prompt_ids))[0]
    sums = [float(first[ids[0]]) for ids in continuations]
    # Longest first: those that end leave the rows at the end.
    order = sorted(range(len(sums)), key=lambda index: -len(continuations[index]))
    for start in range(0, len(order), decoder.slots):
        group = order[start : start + decoder.slots]
        rest = [continuations[index] for index in group]
        rows = (
            _in_steps(decoder, len(prompt_ids), rest)
            if len(rest[0]) - 1 <= len(group)
            else _in_passes(decoder, len(prompt_ids), rest)
        )
        for row, log_prob in rows:
            sums[group[row]] += log_prob
    return sums


def _in_steps(
    decoder: Decoder, length: int, continuations: Sequence[Sequence[int]]
) -> Iterator[tuple[int, float]]:
    """Yield (row, log-probability) of every token but the first, a token of all rows at a time."""
    decoder.rewind(length)
    for slot in range(1, len(continuations)):
        decoder.copy_slot(0, slot, end=length)
    for place in range(1, len(continuations[0])):
        rows = [ids for ids in continuations if len(ids) > place]
        found = _log_softmax(decoder.step([ids[place - 1] for ids in rows]))
        yield from ((row, float(found[row, ids[place]])) for row, ids in enumerate(rows))


def _in_passes(
    decoder: Decoder, length: int, continuations: Sequence[Sequence[int]]
) -> Iterator[tuple[int, float]]:
    """Yield the same, one continuation after another."""
    for row, ids in enumerate(continuations):
        decoder.rewind(length)
        for start in range(0, len(ids) - 1, decoder.chunk):
            targets = ids[start + 1 : start + 1 + decoder.chunk]
            found = _log_softmax(decoder.score(ids[start : start + len(targets)]))
            chosen = found[np.arange(len(targets)), targets]
            yield row, float(chosen.sum(dtype=np.float64))


def _log_softmax(logits: Logits) -> Logits:
    check_largest(logits.max(axis=-1))
    return log_softmax(logits)
