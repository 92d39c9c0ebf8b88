"""Memory of one and of two serving workers, pages that they share counted once (Linux).

    python benchmarks/workers.py FOLDER [--variant V]...

Proportional set sizes (Pss) of all of a server's processes, after a few requests, added up. fp32 is
measured with --low-memory as well. The table is Markdown.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import time
import urllib.request
from pathlib import Path

from serving import free_port, server

ASKED = 8  # requests: both workers get some


def shared_once(pid: int) -> float:
    """Return the MB of a process and of those that it started."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    texts = [Path(f"/proc/{one}/smaps_rollup").read_text() for one in (pid, *children)]
    kilobytes = [int(size) for text in texts for size in re.findall(r"^Pss:\s+(\d+)", text, re.M)]
    return sum(kilobytes) / 1024


def measure(folder: str, options: list[str], workers: int) -> float:
    """Return what a server takes."""
    port = free_port()
    command = [sys.executable, "-m", "pocketgpt", "serve", folder, "--port", str(port)]
    command += ["--workers", str(workers), "--threads", "1", *options]
    with server(command, port, "/health") as pid:
        time.sleep(8)  # one answers that it is ready; the other may still load
        body = json.dumps({"prompt": "Once upon a time", "max_tokens": 8}).encode()
        for _ in range(ASKED):
            head = {"content-type": "application/json"}
            asked = urllib.request.Request(f"http://127.0.0.1:{port}/v1/completions", body, head)
            urllib.request.urlopen(asked).read()
        return shared_once(pid)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder")
    parser.add_argument("--variant", action="append", help="fp32, q8 and q4 by default")
    given = parser.parse_args()
    cases = [["--variant", one] for one in given.variant or ["fp32", "q8", "q4"]]
    cases += [[*one, "--low-memory"] for one in cases if "fp32" in one]
    print("| options | one worker, MB | two, MB |\n|---|---:|---:|")
    for options in cases:
        found = [measure(given.folder, options, workers) for workers in (1, 2)]
        print(f"| {' '.join(options)} | {found[0]:.0f} | {found[1]:.0f} |", flush=True)


if __name__ == "__main__":
    main()
