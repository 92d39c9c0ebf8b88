"""How many cores there are to compute with."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pocketgpt.engine import threads


def pretend(
    monkeypatch: pytest.MonkeyPatch, folder: Path, allowed: set[int], siblings: dict[int, str]
) -> None:
    """Make this machine one whose processors `siblings` share cores as given."""
    for processor, line in siblings.items():
        (folder / str(processor)).write_text(f"{line}\n", "ascii")
    monkeypatch.setattr(threads, "_SIBLINGS", f"{folder}/{{}}")
    monkeypatch.setattr(threads, "_CGROUPS", folder / "cgroup")
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: allowed, raising=False)


def test_this_machine_has_some() -> None:
    assert 1 <= threads.physical_cores() <= (os.cpu_count() or 1)


@pytest.mark.parametrize(
    ("allowed", "expected"), [({0, 1, 2, 3}, 2), ({0, 2}, 1), ({0, 1}, 2), ({3}, 1), ({1, 2, 3}, 2)]
)
def test_siblings_count_once(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, allowed: set[int], expected: int
) -> None:
    """Two cores, processors 0 and 2 on the first, 1 and 3 on the second."""
    pretend(monkeypatch, tmp_path, allowed, {0: "0,2", 1: "1,3", 2: "0,2", 3: "1,3"})
    assert threads.physical_cores() == expected


def test_where_the_system_does_not_say_all_count(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    pretend(monkeypatch, tmp_path, {0, 1, 2}, {})
    assert threads.physical_cores() == 3


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"cpu.max": "150000 100000"}, 2),
        ({"cpu.max": "100000 100000"}, 1),
        ({"cpu.max": "5000 100000"}, 1),
        ({"cpu.max": "900000 100000"}, 4),
        ({"cpu.max": "max 100000"}, 4),
        ({"cpu.max": ""}, 4),
        ({"cpu/cpu.cfs_quota_us": "300000", "cpu/cpu.cfs_period_us": "100000"}, 3),
        ({"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, 4),
        ({}, 4),
    ],
    ids=str,
)
def test_a_containers_limit_counts(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, files: dict[str, str], expected: int
) -> None:
    pretend(monkeypatch, tmp_path, {0, 1, 2, 3}, {})
    for name, content in files.items():
        path = tmp_path / "cgroup" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{content}\n", "ascii")
    assert threads.physical_cores() == expected


@pytest.mark.parametrize(("count", "expected"), [(6, 6), (None, 1)])
def test_without_affinity_the_processors_count(
    monkeypatch: pytest.MonkeyPatch, count: int | None, expected: int
) -> None:
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: count)
    assert threads.physical_cores() == expected
