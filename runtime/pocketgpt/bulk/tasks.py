"""Rows to answers, task by task. What is wrong with a row is its own error; others go on.

A row's answer does not depend on the rows beside it: texts are scored, classified and ranked one
after another, and those that are generated together are what each is alone (fp32), see `Job`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..errors import OptionError, PocketGPTError
from ..folder.json_file import finite
from ..generation.request import Request, jobs_of, resolve_prompt, slots_for
from ..generation.scheduler import AnyJob
from ..generation.sequence import TokenSequence
from ..model import Model
from .job import Job, Task

Answer = dict[str, Any]


@dataclass(frozen=True)
class Row:
    """A row to answer: its columns, and its seed."""

    fields: Mapping[str, Any]
    seed: int

    def text(self, column: str) -> str:
        """Return a column's text.

        Raises:
            OptionError: there is no such column, or it is no text.
        """
        if column not in self.fields:
            raise OptionError(f"the row has no {column!r}")
        value = self.fields[column]
        if not isinstance(value, str):
            raise OptionError(f"{column!r} should be a string, not {type(value).__name__}")
        return str(value)


def answer(model: Model, job: Job, rows: Sequence[Row]) -> list[Answer | PocketGPTError]:
    """Answer rows, each by the columns of its task or by an error.

    Raises:
        InferenceError: the model cannot be run: no row's own fault.
    """
    if job.task == "generate":
        step = 1 if job.batch_size == 1 else max(1, len(rows))
        parts = [rows[start : start + step] for start in range(0, len(rows), step)]
        return [one for part in parts for one in _generate(model, job, part)]
    found: list[Answer | PocketGPTError] = []
    for row in rows:
        try:
            found.append(_ALONE[job.task](model, job, row))
        except OptionError as error:
            found.append(error)
    return found


def check(model: Model, job: Job) -> None:
    """Refuse what would fail for every row.

    Raises:
        OptionError: the model is not for the task, or an option is out of range.
    """
    model.adapter(job.adapter)
    if job.task == "generate":
        model.resolve(job.options)
        return
    model.check_task("text-classification" if job.task == "classify" else "text-generation")
    if job.task == "choose":
        model.choose("a", job.choices or [" b"], **job.options, adapter=job.adapter)
    elif job.task == "score":
        model.score("a b c d e f", **job.options, adapter=job.adapter)
    else:
        model.classify("a", **job.options)


def _generate(model: Model, job: Job, rows: Sequence[Row]) -> list[Answer | PocketGPTError]:
    """Continue prompts, as many at once as the job says."""
    shared = model.resolve(job.options)
    found: list[Answer | PocketGPTError | None] = [None] * len(rows)
    requests: list[Request] = []
    made: list[tuple[int, TokenSequence, AnyJob]] = []
    for place, row in enumerate(rows):
        try:
            prompt = row.text(job.text_column)
            options = dataclasses.replace(shared, seed=row.seed)
            request = resolve_prompt(prompt, options, model.tokenizer, model.config)
            texts, jobs = jobs_of(
                [request], model.tokenizer, model.vocabulary, model.config.n_positions
            )
        except OptionError as error:
            found[place] = error
        else:
            requests.append(request)
            made.append((place, texts[0], jobs[0]))
    failed = _run(model, job, requests, [one for _, _, one in made])
    for place, text, one in made:
        found[place] = failed.get(id(one)) or _as_columns(text)
    return [one for one in found if one is not None]


def _run(
    model: Model, job: Job, requests: Sequence[Request], jobs: Sequence[AnyJob]
) -> dict[int, PocketGPTError]:
    """Run jobs to their ends; return the errors of those that failed, by the jobs' `id`."""
    if not jobs:
        return {}
    slots = slots_for(requests, job.batch_size)
    scheduler = model.scheduler(slots, job.adapter, isolate=True)
    for one in jobs:
        scheduler.submit(one)
    for _ in scheduler.run(lambda: False):
        pass
    return {id(one): error for one, error in scheduler.failed}


def _as_columns(text: TokenSequence) -> Answer:
    result = text.result()
    return {
        "completion": result.text,
        "finish_reason": result.finish_reason,
        "new_tokens": len(result.token_ids),
    }


def _score(model: Model, job: Job, row: Row) -> Answer:
    found = model.score(row.text(job.text_column), adapter=job.adapter, **job.options)
    return {
        "log_prob": finite(float(found.log_probs.sum(dtype="float64"))),
        "scored_tokens": len(found.log_probs),
        "perplexity": finite(found.perplexity),
        "bits_per_byte": finite(found.bits_per_byte),
    }


def _classify(model: Model, job: Job, row: Row) -> Answer:
    found = model.classify(row.text(job.text_column), **job.options)
    assert model.config.labels is not None
    return {
        "label": found.label,
        "probability": found.probability,
        "probabilities": [found.probabilities[name] for name in model.config.labels.names],
    }


def _choose(model: Model, job: Job, row: Row) -> Answer:
    prompt = row.text(job.text_column)
    choices: Any = job.choices or row.fields.get(job.choices_column)
    if not isinstance(choices, (list, tuple)):
        raise OptionError(f"{job.choices_column!r} should be a list of strings")
    found = model.choose(prompt, choices, adapter=job.adapter, **job.options)
    return {"choice": found.text, "choice_index": found.index, "scores": [*found.scores]}


_ALONE: Mapping[Task, Callable[[Model, Job, Row], Answer]] = {
    "score": _score,
    "classify": _classify,
    "choose": _choose,
}
