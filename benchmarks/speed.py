"""How fast each system runs one GPT-2, side by side: a table, a plot, all figures as JSON.

    python benchmarks/speed.py CHECKPOINT FOLDER OUT [--rounds N] [--threads N] [--only LABEL]...

Every system converts the checkpoint by its own tool, once, and runs in an environment of its own
(`make bench` makes them). It gets the same token ids, makes as many tokens, greedily, with as many
threads. Every run is a process of its own; systems take turns, round by round. Figures are medians
over the rounds with the least and the greatest. OUT gets speed.json, speed.md and speed.svg.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ENVIRONMENTS = HERE.parent / ".venv-bench"
WORKER = HERE / "systems" / "worker.py"
OURS = "PocketGPT"
LONGEST_RUN = 1800  # seconds


@dataclass(frozen=True)
class System:
    """A row of the table: whose model, in which form, of how many bits."""

    label: str
    module: str
    kind: str
    bits: int

    @property
    def python(self) -> Path:
        """The interpreter of its environment; ours is the one that runs this."""
        if self.module == "pocketgpt_system":
            return Path(sys.executable)
        return ENVIRONMENTS / self.module.removesuffix("_system") / "bin" / "python"


SYSTEMS = (
    System(f"{OURS} fp32", "pocketgpt_system", "fp32", 32),
    System("PyTorch", "transformers_system", "float32", 32),
    System("Optimum fp32", "optimum_system", "fp32", 32),
    System("CTranslate2 float32", "ctranslate2_system", "float32", 32),
    System("llama.cpp F32", "llama_system", "F32", 32),
    System(f"{OURS} int8", "pocketgpt_system", "int8", 8),
    System(f"{OURS} q8", "pocketgpt_system", "q8", 8),
    System("Optimum int8", "optimum_system", "int8", 8),
    System("CTranslate2 int8", "ctranslate2_system", "int8", 8),
    System("llama.cpp Q8_0", "llama_system", "Q8_0", 8),
    System("OpenVINO int8", "openvino_system", "int8", 8),
    System(f"{OURS} q4", "pocketgpt_system", "q4", 4),
    System("llama.cpp Q4_0", "llama_system", "Q4_0", 4),
    System("llama.cpp Q4_K_M", "llama_system", "Q4_K_M", 4),
    System("OpenVINO int4", "openvino_system", "int4", 4),
)
# What the table shows: heading, key of a figure, what is shown of it, how it is written.
COLUMNS: tuple[tuple[str, str, Callable[[float], float], str], ...] = (
    ("decode after 32, tok/s", "step after 32", lambda s: 1 / s, "{:.0f}"),
    ("after 512", "step after 512", lambda s: 1 / s, "{:.0f}"),
    ("after 900", "step after 900", lambda s: 1 / s, "{:.0f}"),
    ("first token of 32, ms", "first token after 32", lambda s: 1e3 * s, "{:.0f}"),
    ("of 512", "first token after 512", lambda s: 1e3 * s, "{:.0f}"),
    ("512 in, 128 out, ms", "job", lambda s: 1e3 * s, "{:.0f}"),
    ("8 rows, tok/s", "step of 8 rows", lambda s: 8 / s, "{:.0f}"),
    ("32 rows", "step of 32 rows", lambda s: 32 / s, "{:.0f}"),
    ("start to first token, s", "start to first token", lambda s: s, "{:.1f}"),
    ("peak MB", "peak_rss", lambda b: b / 1e6, "{:.0f}"),
)


def call(system: System, doing: str, arguments: argparse.Namespace) -> str:
    """Run a system's worker; return what it printed.

    Raises:
        RuntimeError: it failed; the message has its last line.
    """
    work = arguments.out / "work" / system.module.removesuffix("_system")
    command = [system.python, WORKER, system.module, doing, "--kind", system.kind]
    command += ["--checkpoint", arguments.checkpoint, "--folder", arguments.folder, "--work", work]
    command += ["--threads", arguments.threads, "--started", time.time()]
    environment = {**os.environ, "OMP_NUM_THREADS": str(arguments.threads), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        list(map(str, command)),
        capture_output=True,
        text=True,
        env=environment,
        timeout=LONGEST_RUN,
    )
    if done.returncode:
        raise RuntimeError((done.stderr.strip().splitlines() or ["it printed nothing"])[-1][:300])
    return done.stdout


def collect(systems: list[System], arguments: argparse.Namespace) -> dict[str, Any]:
    """Convert once, then measure round by round; return runs by label, or why there are none."""
    found: dict[str, Any] = {}
    for module in dict.fromkeys(system.module for system in systems):
        own = [system for system in systems if system.module == module]
        print(f"preparing {module.removesuffix('_system')} ...", file=sys.stderr, flush=True)
        for system in own:
            found[system.label] = {"bits": system.bits, "runs": []}
        try:
            call(own[0], "prepare", arguments)
        except (OSError, RuntimeError, subprocess.TimeoutExpired) as error:
            for system in own:
                found[system.label]["error"] = str(error)
    for number in range(arguments.rounds):
        for system in (system for system in systems if "error" not in found[system.label]):
            print(f"round {number + 1}: {system.label} ...", file=sys.stderr, flush=True)
            try:
                last = call(system, "measure", arguments).strip().splitlines()[-1]
                found[system.label]["runs"].append(json.loads(last))
            except (OSError, RuntimeError, ValueError, subprocess.TimeoutExpired) as error:
                found[system.label]["error"] = str(error)
    return found


def median(entry: dict[str, Any], key: str) -> float | None:
    """Return the median of a figure over a system's runs; None where it has none."""
    values = [run[key] for run in entry["runs"] if key in run]
    return statistics.median(values) if values else None


def agreement(entry: dict[str, Any], reference: dict[str, Any]) -> str:
    """Say how many leading tokens equal PyTorch's, by the length of the prompt."""
    if not entry["runs"] or not reference.get("runs"):
        return ""
    shares = []
    for length, tokens in entry["runs"][0]["tokens"].items():
        expected = reference["runs"][0]["tokens"][length]
        pairs = enumerate(zip(tokens, expected, strict=True))
        same = next((number for number, (a, b) in pairs if a != b), len(expected))
        shares.append(f"{same}/{len(expected)}")
    return ", ".join(shares)


def table(found: dict[str, Any]) -> str:
    """Return the figures as Markdown: medians, and beneath them the least and the greatest."""
    headings = ["system", *(heading for heading, *_ in COLUMNS), "tokens as PyTorch's"]
    lines = ["| " + " | ".join(headings) + " |", "|" + "---|" * len(headings)]
    reference = found.get("PyTorch", {})
    for label, entry in found.items():
        if not entry["runs"]:
            lines.append(f"| {label} | {entry.get('error', 'not run')} |" + " |" * len(COLUMNS))
            continue
        cells = [f"**{label}**" if label.startswith(OURS) else label]
        for _, key, convert, form in COLUMNS:
            values = sorted(convert(run[key]) for run in entry["runs"] if key in run)
            if not values:
                cells.append("")
                continue
            cell = form.format(statistics.median(values))
            if len(values) > 1:
                cell += f" ({form.format(values[0])}-{form.format(values[-1])})"
            cells.append(cell)
        lines.append("| " + " | ".join([*cells, agreement(entry, reference)]) + " |")
    return "\n".join(lines) + "\n"


def ratios(found: dict[str, Any]) -> str:
    """Return our best variant over the best peer, by width and figure: above 1 is better."""
    headings = ["bits", *(heading for heading, *_ in COLUMNS)]
    lines = ["| " + " | ".join(headings) + " |", "|" + "---|" * len(headings)]
    for bits in (32, 8, 4):
        rows = {label: entry for label, entry in found.items() if entry["bits"] == bits}
        cells = [str(bits)]
        for _, key, *_ in COLUMNS:
            known = [(label, value) for label, e in rows.items() if (value := median(e, key))]
            ours = [value for label, value in known if label.startswith(OURS)]
            theirs = [value for label, value in known if not label.startswith(OURS)]
            cells.append(f"{min(theirs) / min(ours):.2f}" if ours and theirs else "")
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def plot(found: dict[str, Any], path: Path) -> None:
    """Draw decoding speed by cache length, and the first token's time by prompt length."""
    import matplotlib

    matplotlib.use("svg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, 2, figsize=(11, 4.5), layout="constrained")
    for label, entry in found.items():
        style = {"linewidth": 2.2 if label.startswith(OURS) else 1, "marker": "o", "label": label}
        shown: tuple[tuple[Any, str, Callable[[float], float]], ...] = (
            (axes[0], "step after", lambda s: 1 / s),
            (axes[1], "first token after", lambda s: 1e3 * s),
        )
        for axis, key, convert in shown:
            points = [(n, median(entry, f"{key} {n}")) for n in (32, 512, 900)]
            known = [(n, convert(value)) for n, value in points if value is not None]
            if known:
                axis.plot(*zip(*known, strict=True), **style)
    axes[0].set(xlabel="tokens in the cache", ylabel="tokens a second", title="decoding")
    axes[1].set(xlabel="tokens of the prompt", ylabel="ms", title="first token", yscale="log")
    axes[0].legend(fontsize=7)
    figure.savefig(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--only", action="append", help="a part of a label; may be repeated")
    arguments = parser.parse_args()
    arguments.checkpoint, arguments.folder = (
        path.resolve() for path in (arguments.checkpoint, arguments.folder)
    )
    arguments.out = arguments.out.resolve()
    arguments.out.mkdir(parents=True, exist_ok=True)
    wanted = arguments.only or [""]
    systems = [system for system in SYSTEMS if any(part in system.label for part in wanted)]
    found = collect(systems, arguments)
    (arguments.out / "speed.json").write_text(json.dumps(found, indent=2), "utf-8")
    text = f"{table(found)}\nOur best variant over the best peer:\n\n{ratios(found)}"
    (arguments.out / "speed.md").write_text(text, "utf-8")
    plot(found, arguments.out / "speed.svg")
    print(text)


if __name__ == "__main__":
    main()
