"""A Ray cluster of three nodes on this machine, and rows for it; `make test-bulk`."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from ..conftest import ROOT

if TYPE_CHECKING:
    from ray.cluster_utils import Cluster

FOLDER = Path(os.environ.get("POCKETGPT_BULK", ROOT / "build" / "pocket-tales"))
WORDS = "the cat sat on a mat and looked at the big red dog while rain fell".split()  # noqa: SIM905
MEMORY = 100 * 2**20  # bytes of a node's object store


@pytest.fixture(scope="session")
def folder() -> Path:
    """The bundled checkpoint, exported."""
    for name in ("ray", "pyarrow"):
        pytest.importorskip(name, reason="run by `make test-bulk`")
    if not (FOLDER / "pocketgpt.json").exists():
        pytest.skip(f"{FOLDER} is not there: make test-bulk makes it")
    return FOLDER


def make_rows(count: int) -> list[dict[str, Any]]:
    """Return rows of prompts of many lengths and scripts; some are wrong."""
    drawn = random.Random(5)
    odd = ["", "灯台守は船を数えた。", "🌙 We danced 💃🕺", None, "ships " * 600, "a\x00b"]
    rows = []
    for number in range(count):
        text: str | None = " ".join(drawn.choices(WORDS, k=drawn.randint(1, 24)))
        if number % 50 == 7:
            text = odd[number // 50 % len(odd)]
        rows.append({"id": f"row-{number:05}", "prompt": text, "number": number})
    return rows


def write_parquet(path: Path, rows: list[dict[str, Any]]) -> Path:
    """Write rows in row groups of 500."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.Table.from_pylist(rows), path, row_group_size=500)
    return path


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch, folder: Path) -> Iterator[Cluster]:
    """Three nodes of two CPUs each; all of their processes end with the test."""
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    # A machine that does other things besides starts processes slowly.
    monkeypatch.setenv("RAY_worker_register_timeout_seconds", "600")
    import ray
    from ray.cluster_utils import Cluster

    node = {"num_cpus": 2, "object_store_memory": MEMORY}
    nodes = Cluster(initialize_head=True, head_node_args={**node, "include_dashboard": False})
    try:
        for _ in range(2):
            nodes.add_node(**node)
        yield nodes
    finally:
        ray.shutdown()
        nodes.shutdown()
