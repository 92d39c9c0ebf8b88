"""Prompts with reference answers in a file, and how close a model's answers come to them."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .. import validate
from ..errors import OptionError
from ..generation.generator import TextGenerator
from ..generation.request import resolve_prompt
from .metrics import METRICS


@dataclass(frozen=True)
class Evaluation:
    """What `evaluate` found.

    Attributes:
        metric: its name.
        scores: by what the metric calls them: `bleu`, 0 to 100; `rouge1`, `rouge2` and `rougeL`, or
            `exact`, 0 to 1.
        signature: how the metric was set.
        pairs: how many prompts there were.
        texts: what was generated for each, in the file's order.
    """

    metric: str
    scores: Mapping[str, float]
    signature: str
    pairs: int
    texts: tuple[str, ...]


@dataclass(frozen=True)
class Pair:
    """One line of a file: `line` counts from 1."""

    line: int
    prompt: str
    references: tuple[str, ...]


def evaluate(
    model: TextGenerator,
    path: Path,
    metric: str,
    batch_size: int,
    options: Mapping[str, Any],
    progress: Callable[[int, int], None] | None = None,
    adapter: str | None = None,
) -> Evaluation:
    """Generate for every prompt of a file and compare; see `Model.evaluate`."""
    validate.one_of("metric", metric, tuple(METRICS))
    validate.whole("batch_size", batch_size, at_least=1)
    measure = METRICS[metric]()  # now: a library that is missing is missed before the work
    model.adapter(adapter)  # refused before the file is read
    resolved = model.resolve(options)
    if resolved.num_return_sequences > 1:
        raise OptionError("an evaluation has one text for a prompt: no num_return_sequences")
    pairs = read_pairs(path)
    for pair in pairs:
        try:
            resolve_prompt(pair.prompt, resolved, model.tokenizer, model.config)
        except OptionError as error:
            raise OptionError(f"{path}, line {pair.line}: {error}") from None
    texts: list[str] = []
    for start in range(0, len(pairs), batch_size):
        prompts = [pair.prompt for pair in pairs[start : start + batch_size]]
        results = model.generate(prompts, batch_size=batch_size, adapter=adapter, **options)
        texts += [result.text for result in results]
        if progress:
            progress(len(texts), len(pairs))
    scores, signature = measure(texts, [pair.references for pair in pairs])
    return Evaluation(metric, scores, signature, len(pairs), tuple(texts))


def read_pairs(path: str | os.PathLike[str]) -> list[Pair]:
    """Read a file of JSON lines, each an object with `prompt` and `reference` or `references`.

    Other keys are passed over, and so are empty lines.

    Raises:
        OptionError: the file cannot be read or has no line, or one is broken; the message has its
            number.
    """
    try:
        lines = Path(path).read_text("utf-8").split("\n")
    except (OSError, ValueError) as error:  # ValueError: no UTF-8, or no name for a file
        raise OptionError(f"{path} cannot be read: {error}") from None
    pairs = []
    for number, line in enumerate(lines, 1):
        if line.strip():
            try:
                pairs.append(_parse(number, line))
            except ValueError as error:
                raise OptionError(f"{path}, line {number}: {error}") from None
    if not pairs:
        raise OptionError(f'{path} has no line; write {{"prompt": "...", "reference": "..."}}')
    return pairs


def _parse(number: int, line: str) -> Pair:
    try:
        fields = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"no JSON ({error})") from None
    if not isinstance(fields, dict):
        raise ValueError("should be an object with prompt and reference")
    if ("reference" in fields) == ("references" in fields):
        raise ValueError("should have either reference, a string, or references, a list of them")
    own = fields["references"] if "references" in fields else [fields["reference"]]
    if not isinstance(fields.get("prompt"), str):
        raise ValueError(f"prompt should be a string, not {fields.get('prompt')!r}")
    if not _are_texts(own):
        raise ValueError("references should be strings in a list, at least one")
    return Pair(number, fields["prompt"], tuple(own))


def _are_texts(own: object) -> bool:
    return isinstance(own, list) and bool(own) and all(isinstance(one, str) for one in own)
