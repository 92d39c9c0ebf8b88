"""Rows to answers: each as the model gives it alone, errors in their column."""

from __future__ import annotations

import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import pocketgpt
from pocketgpt import OptionError
from pocketgpt.bulk import Job, RowWorker

from ..conftest import SENTENCES

GREEDY: dict[str, Any] = {"max_new_tokens": 8}
SAMPLED: dict[str, Any] = {**GREEDY, "do_sample": True, "temperature": 1.5}
PROMPTS = [*SENTENCES, "", "灯台守", "🌙", "The lighthouse keeper", " ", "a\x00b", SENTENCES[0]]
ROWS: list[dict[str, str]] = [
    {"id": f"r{number}", "prompt": text} for number, text in enumerate(PROMPTS)
]


@pytest.fixture
def worker_of(tiny: pocketgpt.Model, tiny_folder: Path) -> Any:
    """Make a worker over the model that is loaded already."""

    def make(**changes: Any) -> RowWorker:
        worker = RowWorker(Job(tiny_folder, loading={"variant": "fp32"}, **changes))
        worker.__dict__["model"] = tiny
        return worker

    return make


def test_a_row_has_the_text_that_generate_gives(worker_of: Any, tiny: pocketgpt.Model) -> None:
    found = worker_of(options=GREEDY)(ROWS)
    for row, answered in zip(ROWS, found, strict=True):
        alone = tiny.generate(row["prompt"], **GREEDY)
        assert answered == {
            **row,
            "completion": alone.text,
            "finish_reason": alone.finish_reason,
            "new_tokens": len(alone.token_ids),
            "error": None,
        }


def test_a_sampled_row_has_the_text_of_its_own_seed(worker_of: Any, tiny: pocketgpt.Model) -> None:
    worker = worker_of(options=SAMPLED, id_column="id", seed=3)
    found = [row["completion"] for row in worker(ROWS)]
    seeds = [worker.job.seed_of(row["id"]) for row in ROWS]
    assert found == [
        tiny.generate(row["prompt"], **SAMPLED, seed=seed).text
        for row, seed in zip(ROWS, seeds, strict=True)
    ]
    assert found[0] != found[-1]  # one prompt, two ids
    assert found != [row["completion"] for row in worker_of(options=SAMPLED, id_column="id")(ROWS)]


@pytest.mark.parametrize("options", [GREEDY, SAMPLED], ids=["greedy", "sampled"])
@pytest.mark.parametrize("batch_size", [1, 3, 16])
def test_answers_do_not_depend_on_the_rows_beside(
    worker_of: Any, options: dict[str, Any], batch_size: int
) -> None:
    worker = worker_of(options=options, id_column="id", batch_size=batch_size)
    whole = worker_of(options=options, id_column="id")(ROWS)
    assert [one for row in ROWS for one in worker([row])] == whole
    assert worker(ROWS[:5]) + worker(ROWS[5:]) == whole
    assert worker(ROWS[::-1]) == whole[::-1]


def test_of_int8_each_is_what_it_is_alone_where_none_is_beside_it(tiny_folder: Path) -> None:
    """A pass over several rows is another product of matrices: only alone it is the same to a bit.

    `Job.batch_size` says so.
    """
    job = Job(tiny_folder, loading={"variant": "int8"}, options=GREEDY, batch_size=1)
    worker = RowWorker(job)
    whole = worker(ROWS)
    assert [one for row in ROWS for one in worker([row])] == whole
    assert [row["completion"] for row in whole] == [
        worker.model.generate(row["prompt"], **GREEDY).text for row in ROWS
    ]


@pytest.mark.parametrize("task", ["generate", "score", "choose"])
def test_a_wrong_row_has_its_error_and_the_others_go_on(worker_of: Any, task: Any) -> None:
    options = GREEDY if task == "generate" else {}
    column = {"column": "prompt", "id_column": "id"}
    worker = worker_of(task=task, options=options, **column)
    choices = [" counted", " [/b] 灯台守"]
    good = {"id": 1, "prompt": "The lighthouse keeper", "choices": choices}
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"id": 2, "prompt": 5}, "'prompt' should be a string, not int"),
        ({"id": 3}, "the row has no 'prompt'"),
        ({"id": 4, "prompt": None}, "'prompt' should be a string, not NoneType"),
        ({"id": 5, "prompt": "\ud800"}, "lone surrogate"),
        ({"prompt": "a"}, "a row's id should be a string or a whole number, not None"),
        ({"id": 1.5, "prompt": "a"}, "a row's id should be a string or a whole number, not 1.5"),
        ({"id": True, "prompt": "a"}, "not True"),
    ]
    if task == "generate":
        wrong.append(({"id": 6, "prompt": "ships and boats " * 60}, "the model's context is 96"))
    if task == "score":
        wrong.append(({"id": 7, "prompt": ""}, "cannot be scored"))
    if task == "choose":
        wrong += [
            ({"id": 8, "prompt": "a", "choices": " b"}, "'choices' should be a list of strings"),
            ({"id": 9, "prompt": "a", "choices": [" b", ""]}, "choice 2 has no token"),
        ]
    rows = [{"choices": choices, **row} for row, _ in wrong]
    mixed = [one for row in rows for one in (row, good)]
    found = worker(mixed)
    assert worker([]) == []
    assert worker([{"prompt": "a"}])[0]["error"] is not None
    expected = worker([good])[0]
    assert expected["error"] is None
    assert found[1::2] == [expected] * len(wrong)
    for answered, (_, message) in zip(found[::2], wrong, strict=True):
        assert message in answered["error"]
        assert "\n" not in answered["error"]
        assert {answered[name] for name in worker.job.columns if name != "error"} == {None}


def test_score_and_choose_are_those_of_the_model(worker_of: Any, tiny: pocketgpt.Model) -> None:
    text = SENTENCES[0]
    own = tiny.score(text, stride=7)
    (found,) = worker_of(task="score", options={"stride": 7})([{"text": text}])
    assert found == {
        "text": text,
        "log_prob": float(own.log_probs.sum(dtype=np.float64)),
        "scored_tokens": len(own.log_probs),
        "perplexity": own.perplexity,
        "bits_per_byte": own.bits_per_byte,
        "error": None,
    }
    choices = (" counted the ships", " 灯台守")
    best = tiny.choose("The keeper", choices, normalization="bytes")
    same = worker_of(task="choose", choices=choices, options={"normalization": "bytes"})
    (found,) = same([{"prompt": "The keeper"}])
    assert (found["choice"], found["choice_index"]) == (best.text, best.index)
    assert found["scores"] == [*best.scores]


def test_classify_is_that_of_the_model(classifier_folder: Path) -> None:
    model = pocketgpt.load(classifier_folder)
    job = Job(classifier_folder, "classify", options={"truncation": True}, prefix="my_")
    texts = ["The wind will turn.", "灯台守 🌙", "ships " * 99]
    found = RowWorker(job)([*({"text": text} for text in texts), {"text": ""}])
    for text, row in zip(texts, found, strict=False):
        own = model.classify(text, truncation=True)
        assert (row["my_label"], row["my_probability"]) == (own.label, own.probability)
        names = ["negative", "neutral", "très positif 😀"]
        assert row["my_probabilities"] == [own.probabilities[name] for name in names]
    assert "it is empty" in found[-1]["my_error"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"task": "sing"}, "task should be one of 'generate', 'score', 'classify', 'choose'"),
        ({"task": "score", "options": {"max_new_tokens": 3}}, "no option max_new_tokens"),
        ({"choices": [" a"]}, "choices are for the task choose"),
        ({"options": {"seed": 3}}, "seed is the job's"),
        ({"options": {"num_return_sequences": 2}}, "a row has one text"),
        ({"seed": -1}, "seed should be"),
        ({"batch_size": 0}, "batch_size should be"),
    ],
)
def test_a_wrong_job_is_refused_at_once(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(OptionError, match=message):
        Job("nowhere", **changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"options": {"max_new_tokens": -3}}, "max_new_tokens should be"),
        ({"options": {"max_tokens": 3}}, "unknown option max_tokens"),
        ({"task": "classify"}, "a language model, which has no labels"),
        ({"task": "score", "options": {"stride": 0}}, "stride should be between"),
        ({"task": "choose", "options": {"normalization": "x"}}, "normalization should be one of"),
        ({"adapter": "poems"}, "no adapter 'poems' was loaded"),
    ],
)
def test_what_would_fail_for_every_row_fails_once(
    tiny_folder: Path, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(OptionError, match=message):
        RowWorker(Job(tiny_folder, loading={"variant": "fp32"}, **changes))([{"prompt": "a"}])


def test_seeds_are_the_same_in_every_process(tiny_folder: Path) -> None:
    job = Job(tiny_folder, seed=7)
    ids: list[str | int] = [0, 1, "1", "a", "灯台守 🌙", 2**70, ""]
    seeds = [job.seed_of(one) for one in ids]
    assert len(set(seeds)) == len(ids)
    code = f"from pocketgpt.bulk import Job; print([Job('x', seed=7).seed_of(i) for i in {ids!a}])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == str(seeds)
    # Worked out by hand: blake2b of '[7, 0]', its first 8 bytes. Another value would give sampled
    # texts that a run begun by an earlier version cannot go on with.
    assert seeds[0] == int("624265fb13f5c195", 16)


def test_pickled_it_is_its_job(tiny_folder: Path) -> None:
    worker = RowWorker(Job(tiny_folder, loading={"variant": "fp32"}, options=GREEDY))
    expected = worker(ROWS[:2])
    pickled = pickle.dumps(worker)
    assert len(pickled) < 1000
    assert pickle.loads(pickled)(ROWS[:2]) == expected


def test_numbers_of_numpy_are_numbers(worker_of: Any) -> None:
    worker = worker_of(options=SAMPLED, id_column="id")
    rows = [{"id": np.int64(4), "prompt": np.str_("The keeper")}, {"id": 4, "prompt": "The keeper"}]
    one, other = worker.answers(rows)
    assert one == other
    assert one["error"] is None
