"""Prompts with reference answers in a file, and how close a model's answers come to them."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .. import validate
from ..errors import OptionError
from ..generation.generator import TextGenerator
from ..generation.request import resolve_prompt
from .choice import METRIC as CHOICE
from .choice import evaluate_choices
from .evaluation import Evaluation
from .json_lines import read_json_lines
from .metrics import METRICS


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
    validate.one_of("metric", metric, (*METRICS, CHOICE))
    if metric == CHOICE:
        if options:
            raise OptionError(f"choice generates nothing: leave out {', '.join(options)}")
        return evaluate_choices(model, path, batch_size, progress, adapter)
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
    example = '{"prompt": "...", "reference": "..."}'
    return read_json_lines(path, _parse, "prompt and reference", example)


def _parse(number: int, fields: Mapping[str, Any]) -> Pair:
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
