"""What an app takes on with PocketGPT: packages and licences, start-up, memory.

    python benchmarks/embedding.py FOLDER [--variant V]... [--rounds N] [--write docs/embedding.md]

Writes the tables of docs/embedding.md.

Packages are those that the runtime requires, with all that they require, as installed here. Starts
are of processes of their own, medians over the rounds. Memory is Linux's, of processes that have
loaded the variant and made 100 tokens: what is its own, and with N of them each one's share.
"""

from __future__ import annotations

import argparse
import json
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from importlib.metadata import Distribution, distribution, packages_distributions
from pathlib import Path
from typing import Any

from machine import described
from packaging.requirements import Requirement
from tables import markdown

REQUIRED = ("numpy", "onnxruntime", "tokenizers")
PROMPT, TOKENS, WORKERS = "Once upon a time", 100, 4
# Of packages whose metadata name licences otherwise, by SPDX; their own words are left of it.
SPDX = {
    "3-Clause BSD License": "BSD-3-Clause",
    "Apache": "Apache-2.0",
    "Apache 2.0": "Apache-2.0",
    "Apache Software License": "Apache-2.0",
    "MIT License": "MIT",
}
ONCE = """
import sys, time
begun = time.perf_counter()
import pocketgpt
imported = time.perf_counter()
model = pocketgpt.load(sys.argv[1], sys.argv[2])
loaded = time.perf_counter()
next(model.stream(sys.argv[3], max_new_tokens=8))
print(imported - begun, loaded - imported, time.perf_counter() - loaded)
"""
STAYING = """
import sys
import pocketgpt
model = pocketgpt.load(sys.argv[1], sys.argv[2], threads=1)
model.generate(sys.argv[3], max_new_tokens=int(sys.argv[4]), eos_token_id=[])
print("ready", flush=True)
sys.stdin.read()
"""
_PART = re.compile(
    r"(<!-- (\w+): made by benchmarks/embedding.py -->\n).*?(<!-- end of \2 -->)", re.DOTALL
)


def closure(names: tuple[str, ...] = REQUIRED) -> dict[str, Distribution]:
    """Return what these packages require, and what that does, as installed here."""
    found: dict[str, Distribution] = {}
    todo = list(names)
    while todo:
        package = distribution(todo.pop())
        name = str(package.metadata["Name"]).lower().replace("_", "-")
        if name in found:
            continue
        found[name] = package
        for line in package.requires or ():
            asked = Requirement(line)
            if asked.marker is None or asked.marker.evaluate({"extra": ""}):
                todo.append(asked.name)
    return dict(sorted(found.items()))


def licence_of(package: Distribution) -> str:
    """Return a package's licence as an SPDX expression, from its metadata."""

    def lines(name: str) -> list[str]:
        return [str(line) for line in package.metadata.get_all(name) or () if line]

    if expressions := lines("License-Expression"):
        return expressions[0]
    classes = [line for line in lines("Classifier") if line.startswith("License :: ")]
    classified = [line.rpartition(" :: ")[2] for line in classes]
    said = [*lines("License"), *classified, "not said"][0].splitlines()[0].strip()
    return SPDX.get(said, said)


def size_of(package: Distribution) -> int:
    """Return the bytes of a package's files, without what Python compiled beside them."""
    paths = [Path(str(file.locate())) for file in package.files or () if file.suffix != ".pyc"]
    return sum(path.stat().st_size for path in paths if path.is_file())


def imported(folder: Path) -> set[str]:
    """Return the packages that a process has imported once it has generated."""
    code = (
        ONCE + "import json; print(json.dumps(sorted({n.partition('.')[0] for n in sys.modules})))"
    )
    done = _run([sys.executable, "-c", code, str(folder), "fp32", PROMPT])
    owners = packages_distributions()
    tops = json.loads(done.splitlines()[-1])
    return {owner.lower() for top in tops for owner in owners.get(top, ())}


def packages_table(folder: Path) -> str:
    """Return the table of packages: version, licence, size, and whether it is imported."""
    used = imported(folder)
    rows = [
        [
            name,
            package.version,
            licence_of(package),
            f"{size_of(package) / 1e6:.1f}",
            "yes" if name in used else "",
        ]
        for name, package in closure().items()
    ]
    return markdown(["package", "version", "licence", "MB", "imported"], rows)


def starts_table(folder: Path, variants: list[str], rounds: int) -> str:
    """Return the table of starts: Python alone, importing, loading, the first token."""
    alone, parts = [], {variant: [] for variant in variants}  # type: ignore[var-annotated]
    for _ in range(rounds):
        begin = time.perf_counter()
        _run([sys.executable, "-c", ""])
        alone.append(time.perf_counter() - begin)
        for variant in variants:
            begin = time.perf_counter()
            said = _run([sys.executable, "-c", ONCE, str(folder), variant, PROMPT])
            whole = time.perf_counter() - begin
            parts[variant].append([*map(float, said.split()), whole])
    python = statistics.median(alone)
    rows = []
    for variant in variants:
        medians = [statistics.median(column) for column in zip(*parts[variant], strict=True)]
        rows.append([variant, *(f"{seconds * 1e3:.0f}" for seconds in (python, *medians))])
    headings = ("Python alone", "import", "load", "first token", "whole process")
    return markdown(["variant", *(f"{heading}, ms" for heading in headings)], rows)


def memory_table(folder: Path, variants: list[str]) -> str:
    """Return the table of memory: of one process, and of each of several."""
    rows = []
    for variant in variants:
        (alone,) = _staying(folder, variant, 1)
        several = _staying(folder, variant, WORKERS)
        together = sum(each["Pss"] for each in several)
        rows.append(
            [
                variant,
                f"{alone['Rss'] / 1e6:.0f}",
                f"{together / 1e6:.0f}",
                f"{(together - alone['Rss']) / (WORKERS - 1) / 1e6:.0f}",
            ]
        )
    headings = ["one process, MB", f"{WORKERS} together, MB", "each further one, MB"]
    return markdown(["variant", *headings], rows)


def _staying(folder: Path, variant: str, count: int) -> list[dict[str, int]]:
    """Start so many processes that keep the model, and return what each takes."""
    command = [sys.executable, "-c", STAYING, str(folder), variant, PROMPT, str(TOKENS)]
    workers = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for _ in range(count)
    ]
    try:
        for worker in workers:
            assert worker.stdout is not None
            assert worker.stdout.readline() == "ready\n"
        return [dict(_memory_of(worker.pid)) for worker in workers]
    finally:
        for worker in workers:
            worker.communicate("")


def _memory_of(process: int) -> Iterator[tuple[str, int]]:
    for line in Path(f"/proc/{process}/smaps_rollup").read_text("ascii").splitlines()[1:]:
        name, kilobytes, *_ = line.split()
        yield name.rstrip(":"), int(kilobytes) * 1024


def _run(command: list[str]) -> str:
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


def with_parts(page: str, parts: dict[str, str]) -> str:
    """Return the page with what was made in its places."""
    return _PART.sub(lambda found: f"{found[1]}\n{parts[found[2]]}\n{found[3]}", page)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--variant", action="append", help="fp32, int8, q8 and q4 by default")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--write", type=Path, help="the page to write the tables into")
    arguments = parser.parse_args()
    variants = arguments.variant or ["fp32", "int8", "q8", "q4"]
    machine: dict[str, Any] = described(1)
    told = [machine[name] for name in ("date", "processor", "system")]
    where = ", ".join([*told, f"Python {machine['python']}"])
    parts = {
        "packages": packages_table(arguments.folder),
        "starts": starts_table(arguments.folder, variants, arguments.rounds)
        + f"\n{where}; medians of {arguments.rounds} rounds.\n",
        "memory": memory_table(arguments.folder, variants) + f"\n{where}; one thread.\n",
    }
    print("\n".join(parts.values()))
    if arguments.write:
        path: Path = arguments.write
        path.write_text(with_parts(path.read_text("utf-8"), parts), "utf-8")


if __name__ == "__main__":
    main()
