"""What is kept of a benchmark's runs, and what they come to."""

from __future__ import annotations

from pathlib import Path

import pytest
from calls import ROOT, reason
from figures import figure_of, figures_of
from runs import MACHINE, Run, Runs, Spread, agreement, repeats
from systems.catalog import SYSTEMS, System
from systems.footprint import required, size_of
from systems.measuring import Plan, Timed, ids_of, measure_speed

OURS = System("PocketGPT int8", "pocketgpt", "int8", 8)


class Counting:
    """An engine that counts on from a text's last token."""

    def __init__(self, extra: int = 0) -> None:
        self.seen: list[tuple[int, ...]] = []
        self._extra = extra

    def run(self, texts: list[list[int]], count: int) -> list[list[int]]:
        self.seen += map(tuple, texts)
        return [[text[-1] + number for number in range(count + self._extra)] for text in texts]


def test_runs_are_found_again_and_the_last_of_the_same_counts(tmp_path: Path) -> None:
    runs = Runs(tmp_path / "runs.jsonl")
    runs.add(Run("gpt2", "A", "speed", 1, {"seconds": {"step after 32": 3.0}}))
    runs.add(Run("gpt2", "A", "speed", 0, error="it broke"))
    runs.add(Run("gpt2", "A", "speed", 0, {"seconds": {"step after 32": 1.0}}))
    again = Runs(tmp_path / "runs.jsonl")
    assert again.done("gpt2", "A", "speed", 0)
    assert not again.done("gpt2", "A", "speed", 2)
    assert [one["seconds"]["step after 32"] for one in again.of("gpt2", "A", "speed")] == [1, 3]
    assert again.error("gpt2", "A") is None


def test_a_line_cut_off_in_the_middle_is_done_again(tmp_path: Path) -> None:
    runs = Runs(tmp_path / "runs.jsonl")
    runs.add(Run("gpt2", "A", "speed"))
    with (tmp_path / "runs.jsonl").open("a") as file:
        file.write('{"checkpoint": "gpt2", "label": "B", "do')
    again = Runs(tmp_path / "runs.jsonl")
    assert again.done("gpt2", "A", "speed")
    assert not again.done("gpt2", "B", "speed")
    again.add(Run("gpt2", "C", "speed"))
    assert Runs(tmp_path / "runs.jsonl").done("gpt2", "C", "speed")


def test_what_failed_is_tried_again_when_asked(tmp_path: Path) -> None:
    runs = Runs(tmp_path / "runs.jsonl")
    runs.add(Run("gpt2", "A", "speed", error="it broke"))
    assert runs.error("gpt2", "A") == "it broke"
    runs.forget_errors()
    assert runs.error("gpt2", "A") is None


def test_a_spread_is_the_median_and_both_ends() -> None:
    assert Spread.of([3.0, 1.0, 2.0]) == Spread(2, 1, 3)
    assert Spread.of([]) is None


@pytest.mark.parametrize(
    ("key", "value", "heading", "shown"),
    [
        ("step after 512", 0.004, "after 512, tok/s", "250"),
        ("step of 8 rows", 0.01, "8 texts, tok/s", "800"),
        ("first token of 1000", 1.2345, "first token of 1000, ms", "1,234"),
        ("512 in, 128 out", 0.75, "512 in, 128 out, ms", "750"),
        ("start to first token", 1.26, "start to first token, s", "1.3"),
        ("disk", 7.26e6, "model on disk, MB", "7.3"),
    ],
)
def test_a_figure_is_shown_in_its_unit(key: str, value: float, heading: str, shown: str) -> None:
    figure = figure_of(key)
    assert figure.heading == heading
    assert figure.written(figure.shown(value)) == shown


def test_figures_have_the_share_of_the_bandwidth(tmp_path: Path) -> None:
    runs = Runs(tmp_path / "runs.jsonl")
    runs.add(Run("", MACHINE, "bandwidth", 0, {"bandwidth": 10e9}))
    runs.add(Run("gpt2", OURS.label, "speed", 0, {"seconds": {"step after 32": 0.02}}))
    runs.add(Run("gpt2", OURS.label, "memory", 0, {"disk": 100_000_000, "peak": 3e8}))
    found = figures_of(runs, "gpt2", OURS)
    assert found["step after 32"].median == 50
    assert found["share"].median == pytest.approx(50)  # percent: 5 of 10 GB a second
    assert found["peak"].median == pytest.approx(300)


def test_a_step_lost_in_noise_is_left_out(tmp_path: Path) -> None:
    runs = Runs(tmp_path / "runs.jsonl")
    for number, seconds in enumerate((-0.001, 0.01)):
        runs.add(Run("gpt2", OURS.label, "speed", number, {"seconds": {"step after 32": seconds}}))
    assert figures_of(runs, "gpt2", OURS)["step after 32"] == Spread(100, 100, 100)


def test_perplexity_is_that_of_the_files_it_runs(tmp_path: Path) -> None:
    runs = Runs(tmp_path / "runs.jsonl")
    (genai,) = (system for system in SYSTEMS if system.label == "ONNX Runtime GenAI int8")
    runs.add(Run("pocket-tales", "PocketGPT int8", "quality", 0, {"perplexity": 58.36}))
    assert figures_of(runs, "pocket-tales", genai)["perplexity"].median == 58.36


def test_agreement_counts_to_the_first_difference_of_single_texts() -> None:
    reference = [{"tokens": {"1 x 32 + 4, 0": [1, 2, 3, 4], "8 x 32 + 1, 0": [1] * 8}}]
    found = [{"tokens": {"1 x 32 + 4, 0": [1, 2, 9, 4], "8 x 32 + 1, 0": [2] * 8}}]
    assert agreement(found, reference) == 0.5
    assert agreement(found, []) is None


def test_tokens_have_to_repeat_between_processes() -> None:
    assert repeats([{"tokens": {"a": [1]}}, {"tokens": {"a": [1], "b": [2]}}])
    assert not repeats([{"tokens": {"a": [1]}}, {"tokens": {"a": [2]}}])


def test_no_text_is_timed_twice_nor_begins_like_another() -> None:
    engine = Counting()
    plan = Plan(first=(8, 16), steps=(8,), job=(16, 4), rows=(2,), rows_prompt=8)
    found = measure_speed(engine, plan, 5000)
    assert len({text[:4] for text in engine.seen}) == len(engine.seen)
    assert [*found["seconds"]] == [
        "step after 8",
        "first token of 8",
        "first token of 16",
        "16 in, 4 out",
        "step of 2 rows",
    ]


def test_tokens_that_are_missing_or_too_many_are_an_error() -> None:
    with pytest.raises(ValueError, match="of 3 tokens a row it made"):
        Timed(Counting(extra=1), 5000).seconds(8, 3)


def test_ids_are_the_same_for_all_and_within_the_vocabulary() -> None:
    assert ids_of(100, 5000, 3) == ids_of(100, 5000, 3)
    assert all(256 <= token < 4744 for token in ids_of(1000, 5000))


def test_required_packages_are_followed() -> None:
    names = {distribution.metadata["Name"].lower() for distribution in required(["tokenizers"])}
    assert {"tokenizers", "huggingface-hub"} <= {name.replace("_", "-") for name in names}
    assert "pytest" not in names


def test_sizes_are_of_files_and_of_folders(tmp_path: Path) -> None:
    (tmp_path / "inner").mkdir()
    (tmp_path / "inner" / "a").write_bytes(b"12345")
    assert size_of(tmp_path) == size_of(tmp_path / "inner" / "a") == 5
    assert size_of(tmp_path / "missing") == 0


def test_a_failure_is_said_in_a_line_without_paths() -> None:
    assert reason(-11, "much") == "ended by SIGSEGV"
    assert (
        reason(1, f"first\nOSError: {ROOT}/build/x is missing\n") == "OSError: build/x is missing"
    )
    assert reason(1, "") == "it printed nothing"


def test_labels_are_unique_and_files_are_of_rows_there_are() -> None:
    labels = [system.label for system in SYSTEMS]
    assert len(set(labels)) == len(labels)
    assert {system.files_of for system in SYSTEMS if system.files_of} <= set(labels)
