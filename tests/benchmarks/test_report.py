"""Tables, ratios, the README's part, the page and its pictures."""

from __future__ import annotations

from pathlib import Path

import pytest
from plots import spread_out
from report import BEGIN, END, MAIN, Section, everything, page, put_between, readme_part
from runs import MACHINE, Run, Runs, Spread
from systems.catalog import SYSTEMS, System
from tables import Row, best, ratio, ratios, rivals, side_by_side

INT8 = System("PocketGPT int8", "pocketgpt", "int8", 8)
Q8 = System("PocketGPT q8", "pocketgpt", "q8", 8)
LLAMA = System("llama.cpp Q8_0", "llama", "Q8_0", 8)
FLOAT = System("CTranslate2 float32", "ctranslate2", "float32", 32)


def one(value: float) -> Spread:
    return Spread(value, value, value)


ROWS = [
    Row(INT8, {"step after 32": Spread(300, 290, 310), "disk": one(120)}, None, 0.5),
    Row(Q8, {"step after 32": one(200), "disk": one(125)}, None, 1.0, repeats=False),
    Row(LLAMA, {"step after 32": one(240), "disk": one(150)}, None, 0.25),
    Row(FLOAT, {}, "ended by SIGSEGV"),
]


def test_more_is_better_of_rates_and_less_of_all_else() -> None:
    assert best(ROWS, "step after 32") is ROWS[0]
    assert best(ROWS, "disk") is ROWS[0]
    assert best(ROWS, "peak") is None
    assert ratio(ROWS[0], ROWS[2], "step after 32") == 1.25
    assert ratio(ROWS[0], ROWS[2], "disk") == 1.25
    assert rivals(ROWS, 8, "disk") == (ROWS[0], ROWS[2])
    assert rivals(ROWS, 32, "disk") == (None, None)


def test_ratios_name_both_and_leave_out_what_nobody_measured() -> None:
    assert ratios(ROWS, ["step after 32", "disk"]).splitlines()[2:] == [
        "| after 32 |  | **1.25** int8 / llama.cpp Q8_0 |  |",
        "| model on disk |  | **1.25** int8 / llama.cpp Q8_0 |  |",
    ]


def test_a_table_has_spreads_bold_winners_and_reasons() -> None:
    lines = side_by_side(ROWS, ["step after 32"], tokens=True).splitlines()
    assert lines[0] == "|  | after 32, tok/s | tokens as PyTorch's |"
    assert lines[2:] == [
        "| **PocketGPT int8** | **300**<br><sub>290-310</sub> | 50% |",
        "| **PocketGPT q8** | 200 | 100%, not always the same |",
        "| llama.cpp Q8_0 | 240 | 25% |",
        "| CTranslate2 float32 | not run: ended by SIGSEGV |  |",
    ]


def test_what_is_between_the_markers_is_written_anew() -> None:
    text = f"before\n{BEGIN}\nold\n{END}\nafter\n"
    once = put_between(text, "new")
    assert once == f"before\n{BEGIN}\nnew\n{END}\nafter\n"
    assert put_between(once, "new") == once
    with pytest.raises(ValueError, match="needs the lines"):
        put_between("no markers", "new")


def test_the_readme_has_the_markers() -> None:
    readme = (Path(__file__).parents[2] / "README.md").read_text("utf-8")
    assert put_between(readme, "x") != readme


@pytest.fixture
def runs(tmp_path: Path) -> Runs:
    """Made-up runs of all systems but llama.cpp, on GPT-2's shape, in two rounds."""
    runs = Runs(tmp_path / "runs.jsonl")
    here = {"processor": "Some CPU", "cores": 2, "threads": 2, "system": "Linux on x86_64"}
    runs.add(Run("", MACHINE, "described", found={**here, "date": "2026-01-02"}))
    for number in range(2):
        runs.add(Run("", MACHINE, "bandwidth", number, {"bandwidth": 20e9}))
        for place, system in enumerate(SYSTEMS):
            seconds = {f"step after {n}": 0.01 + place / 1e4 for n in (32, 512)}
            seconds |= {f"first token of {n}": n / 1e3 + place / 1e3 for n in (32, 512)}
            found = {"seconds": seconds, "tokens": {"1 x 32 + 1, 0": [7]}, "versions": {"x": "1"}}
            error = "not installed here" if system.name == "llama" else None
            found = {} if error else found
            runs.add(Run(MAIN, system.label, "speed", number, found, error))
    return runs


def test_the_page_has_every_system(runs: Runs) -> None:
    section = Section.of(runs, MAIN)
    text = page(runs, [section])
    assert all(system.label in text for system in SYSTEMS)
    assert "not run: not installed here" in text
    assert "in 2 rounds, with 2 threads on 2 cores of: Some CPU" in text
    assert everything(runs, [section])["checkpoints"][MAIN]["PyTorch"]["agreement"] == 1.0


def test_the_readme_gets_three_rows_and_a_picture(runs: Runs) -> None:
    part = readme_part(Section.of(runs, MAIN), "On a machine.", "docs")
    assert part.startswith("![")
    assert "(docs/benchmarks-speed.svg)" in part
    rows = [line for line in part.splitlines() if " bits |" in line]
    assert rows[0].startswith("| 32 bits | 100, fp32 | 99, PyTorch | 512, fp32 |")
    assert len(rows) == 3


def test_names_keep_their_distance_and_their_order() -> None:
    assert spread_out([0.9, 0.1, 0.5], 0.1) == [0.9, 0.1, 0.5]
    placed = spread_out([0.50, 0.51, 0.9], 0.1)
    assert placed == pytest.approx([0.455, 0.555, 0.9])
    crowded = spread_out([0.5] * 5, 0.1)
    assert sorted(crowded) == pytest.approx([0.3, 0.4, 0.5, 0.6, 0.7])
