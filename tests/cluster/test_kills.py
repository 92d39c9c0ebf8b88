"""5,000 rows on three nodes: one is removed, an actor is killed, then the driver; and run again."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pocketgpt.bulk import Job, in_order, map_file

from .conftest import make_rows, write_parquet

if TYPE_CHECKING:
    from ray.cluster_utils import Cluster

pytestmark = pytest.mark.filterwarnings("default")  # Ray has some of its own
COUNT = int(os.environ.get("POCKETGPT_BULK_ROWS", "5000"))
LONGEST = 600  # seconds that one thing may take
ACTOR = b"ray::MapWorker(MapBatches(ArrowWorker))"
DRIVER = Path(__file__).with_name("driver.py")


def wait_until(done: Callable[[], Any], what: str, process: subprocess.Popen[str]) -> Any:
    """Wait until something is so; it has to come while a process runs."""
    until = time.monotonic() + LONGEST
    while time.monotonic() < until:
        if found := done():
            return found
        if process.poll() is not None:
            pytest.fail(f"the driver ended before {what}:\n{process.communicate()[1][-4000:]}")
        time.sleep(0.2)
    process.kill()
    pytest.fail(f"{what} did not come:\n{process.communicate()[1][-4000:]}")


def actors() -> dict[int, int]:
    """Return the processes of actors that are alive, each with its parent's number."""
    found = {}
    for path in Path("/proc").glob("[0-9]*"):
        try:
            command, status = (path / "cmdline").read_bytes(), (path / "stat").read_text()
        except OSError:  # it has ended
            continue
        if command.startswith(ACTOR):
            found[int(path.name)] = int(status.rpartition(")")[2].split()[1])
    return found


def written(folder: Path) -> int:
    """Return how many rows are written and noted."""
    import pyarrow.parquet as pq

    notes = folder.with_name(f"{folder.name}.checkpoint") / "ids"
    files = [path for path in notes.glob("*.parquet") if ".pending." not in path.name]
    return sum(pq.read_metadata(path).num_rows for path in files)


def remove_a_node_with_an_actor(cluster: Cluster) -> None:
    """Take a node away as if its power went, one of those with an actor if that is not the head."""
    from ray._private.ray_constants import PROCESS_TYPE_RAYLET

    parents = set(actors().values())
    others = [node for node in cluster.list_all_nodes() if node is not cluster.head_node]

    def has_actor(node: Any) -> bool:
        return node.all_processes[PROCESS_TYPE_RAYLET][0].process.pid in parents

    chosen = max(others, key=has_actor)
    assert has_actor(chosen), "two actors on one node: nothing is tested"
    cluster.remove_node(chosen, allow_graceful=False)


@pytest.mark.parametrize("sampled", [False, True], ids=["greedy", "sampled"])
def test_every_row_is_there_once_whatever_is_killed(
    cluster: Cluster, folder: Path, tmp_path: Path, sampled: bool
) -> None:
    import pyarrow.parquet as pq
    import ray

    source = write_parquet(tmp_path / "rows.parquet", make_rows(COUNT))
    options = {"max_new_tokens": 8, "do_sample": sampled}
    settings: dict[str, Any] = {
        "folder": str(folder),
        "id_column": "id",
        "options": options,
        "seed": 3,
    }
    settings["loading"] = {"variant": "fp32", "threads": 1}
    target = tmp_path / "answers"
    arguments = [cluster.address, str(source), str(target), json.dumps(settings)]
    command = [sys.executable, str(DRIVER), *arguments]
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, **pipes) as driver:
        try:
            wait_until(lambda: written(target) >= COUNT // 8, "an eighth", driver)
            remove_a_node_with_an_actor(cluster)
            so_far = written(target)
            wait_until(lambda: written(target) >= so_far + COUNT // 8, "another eighth", driver)
            os.kill(wait_until(lambda: min(actors(), default=None), "an actor", driver), 9)
            so_far = written(target)
            wait_until(lambda: written(target) >= so_far + COUNT // 8, "a third eighth", driver)
        finally:
            driver.send_signal(signal.SIGKILL)
    left = written(target)
    assert COUNT * 3 // 8 <= left < COUNT
    assert not (target / "_SUCCESS").exists()
    until = time.monotonic() + 60
    while actors() and time.monotonic() < until:  # Ray ends them with their driver
        time.sleep(0.2)
    again = subprocess.run(command, capture_output=True, text=True, timeout=LONGEST)
    assert again.returncode == 0, again.stderr[-4000:]
    assert again.stdout == f"{COUNT} rows\n"
    assert (target / "_SUCCESS").exists()
    assert not target.with_name("answers.checkpoint").exists()

    alone = tmp_path / "alone.parquet"
    # As actors load it: other kernels sum in another order, which may turn a draw.
    settings["loading"]["low_memory"] = True
    map_file(Job(**settings), source, alone)
    expected = pq.read_table(alone).to_pylist()
    found = pq.read_table(target).to_pylist()
    assert len(found) == COUNT
    assert sorted(found, key=lambda row: row["id"]) == expected
    ray.init(address=cluster.address, log_to_driver=False)
    ray.data.DataContext.get_current().enable_progress_bars = False
    assert in_order(target, "id").take_all() == expected
    errors = [row for row in found if row["error"] is not None]
    assert 0 < len(errors) < COUNT / 50
    print(f"{COUNT} rows, {left} of them before the driver was killed, {len(errors)} with errors")
