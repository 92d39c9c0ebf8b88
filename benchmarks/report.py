"""Write down what `speed.py` found: a page, its pictures, the README's part of it, all as JSON.

    python benchmarks/report.py OUT [--docs FOLDER] [--readme FILE]

OUT holds runs.jsonl and gets figures.json. FOLDER, OUT by default, gets benchmarks.md,
benchmarks-speed.svg and benchmarks-quality.svg. Nothing in them is typed by hand: what the page
says of systems, versions and the machine was read where it ran.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from figures import FOOTPRINT, figure_of, figures_of
from plots import draw_quality, draw_speed
from runs import MACHINE, Runs, agreement, repeats
from systems.catalog import REFERENCE, SYSTEMS
from tables import WIDTHS, Row, keys_of, markdown, ratios, rivals, short, side_by_side

BEGIN = "<!-- benchmarks: begin. `make bench` writes what follows. -->"
END = "<!-- benchmarks: end -->"
MAIN, BUNDLED = "gpt2", "pocket-tales"
TITLES = {
    MAIN: (
        "GPT-2's shape",
        "124 million parameters, a context of 1,024, a vocabulary of 50,257. Weights are noise of "
        "a seed: speed does not depend on them. The likeliest tokens of noise are near ties, so "
        "rounding soon makes other tokens of it than PyTorch's. Noise loses little by rounding: q4 "
        "lies in blocks of 128, which OpenVINO's int4 has too, where a trained model of this width "
        "may get 64 or 32; a row shows it in 32, which llama.cpp's Q4_0 has.",
    ),
    BUNDLED: (
        "The bundled checkpoint",
        "7 million parameters, a context of 512, trained weights: all of it lies in a processor's "
        "caches, so what a runtime spends besides reading weights shows. Perplexity is that of "
        "all of `evaluation.txt`, 16,952 tokens, as `pocketgpt quantize` measures it.",
    ),
    "gpt2-medium": (
        "gpt2-medium's shape",
        "355 million parameters in 24 layers, a context of 1,024; noise of a seed.",
    ),
}
METHOD = """
Every system converted the same checkpoint by its own tool, and ran in an environment of its own
with pinned versions (`benchmarks/systems/`). All got the same token ids, made as many tokens,
greedily and past any end of text, with as many threads. Every run was a process of its own;
systems took turns, round by round. Numbers are medians over the rounds; beneath them the least and
the greatest. Bold is the best of a width of weights, and our names.

- *after N, tok/s*: decoding of one text when N tokens are in the cache: how much longer a run of 65
  tokens takes than one of one token. *8 texts*, *32 texts*: tokens a second of all, after 32.
- *first token of N*: from the call to the first token of a prompt of N tokens. No prompt was timed
  twice, nor begins like another: OpenVINO GenAI keeps what it has computed of a text.
- *N in, M out*: the whole call.
- *start to first token*: from the start of the process, Python and model included.
- *peak memory* of a process that loaded the model and did the job of 512 in, 128 out, once;
  *anonymous* is what no file backs, at its end. *idle*: processor time of the 3 seconds after it.
- *model on disk*: the files that are loaded. *installed*: packages that running needs, with all
  that they require, PyTorch in its CPU build; what converts is not counted.
- *share of the bandwidth*: the model's bytes for each token after 32, over what this machine's
  threads read from memory, measured in the same run. Above 100% where it lies in caches.
- *tokens as PyTorch's*: the share of all tokens up to each text's first difference.

ONNX Runtime GenAI and transformers.js ran our model folder's files. transformers.js is asked
through a pipe. llama.cpp decodes several texts as sequences of one batch, one text by
llama-cpp-python's class. An *8-bit cache* holds keys and values in 8 bits; OpenVINO GenAI's always
does, and computes in bfloat16 where the processor can. Its perplexity is that of its model in
OpenVINO's runtime.
""".strip()
RATIOS = (
    "How many times as good ours is, by bits of the weights: above 1 ours is better, whether more "
    "or less is. Behind it our variant, and the other system, that were best."
)
PICTURES = {
    MAIN: "![decoding and first token](benchmarks-speed.svg)",
    BUNDLED: "![speed against perplexity](benchmarks-quality.svg)",
}
NOT_COMPARED = ("share", "idle", "perplexity")


@dataclass(frozen=True)
class Section:
    """A checkpoint's part of the page."""

    name: str
    rows: list[Row]

    @classmethod
    def of(cls, runs: Runs, name: str) -> Section:
        """Collect what was found of a checkpoint."""
        reference = runs.of(name, REFERENCE, "speed")
        rows = []
        for system in SYSTEMS:
            error, speed = runs.error(name, system.label), runs.of(name, system.label, "speed")
            if not speed and error is None:
                continue  # left out by --only
            rows.append(
                Row(
                    system,
                    figures_of(runs, name, system),
                    error,
                    agreement(speed, reference),
                    repeats([*speed, *runs.of(name, system.label, "memory")]),
                    len(speed),
                )
            )
        return cls(name, rows)

    @property
    def rounds(self) -> str:
        """Say in how many rounds its speed was measured, the fewest of all rows."""
        fewest = min((row.rounds for row in self.rows if row.rounds), default=0)
        return "Speed is of one round." if fewest == 1 else f"Speed is of {fewest} rounds."

    def keys(self, *, footprint: bool) -> list[str]:
        """Return the figures of its speed, or all others."""
        return keys_of(self.rows, lambda key: (key in FOOTPRINT) is footprint)

    def text(self) -> str:
        """Return it as Markdown."""
        title, about = TITLES[self.name]
        speed, footprint = self.keys(footprint=False), self.keys(footprint=True)
        comparable = [key for key in speed + footprint if key not in NOT_COMPARED]
        parts = [f"## {title}", f"{about} {self.rounds}", PICTURES.get(self.name, "")]
        parts += ["### Speed", side_by_side(self.rows, speed, tokens=True)]
        parts += ["### Beside speed", side_by_side(self.rows, footprint)]
        parts += ["### Ours against the best of the others", RATIOS]
        parts += [ratios(self.rows, comparable)]
        return "\n\n".join(part.strip() for part in parts if part)


def page(runs: Runs, sections: Sequence[Section]) -> str:
    """Return docs/benchmarks.md."""
    parts = ["# Benchmarks", f"`make bench` wrote this page. {on_what(runs)}", METHOD]
    parts += [section.text() for section in sections]
    parts += ["## Versions", versions(runs)]
    return "\n\n".join(parts) + "\n"


def on_what(runs: Runs) -> str:
    """Say on what machine, when and how often it was measured."""
    (here,) = runs.of("", MACHINE, "described")
    speeds = [found["bandwidth"] / 1e9 for found in runs.of("", MACHINE, "bandwidth")]
    rounds = "one round" if len(speeds) == 1 else f"{len(speeds)} rounds"
    return (
        f"Measured on {here['date']}, in {rounds}, with {here['threads']} threads on "
        f"{here['cores']} cores of: {here['processor']}, {here['system']}, which read "
        f"{min(speeds):.0f} to {max(speeds):.0f} GB a second from memory. Only ratios taken side "
        "by side in one run hold elsewhere."
    )


def versions(runs: Runs) -> str:
    """Return the versions of what was measured, a line a system."""
    lines: dict[str, list[str]] = {}
    for system in SYSTEMS:
        for run in (run for run in runs if run.label == system.label and run.doing == "speed"):
            if run.error is None:
                found = [f"{name} {version}" for name, version in run.found["versions"].items()]
                lines.setdefault(system.name, [system.name, ", ".join(found)])
    return markdown(["system", "versions"], lines.values()).replace("---:", "---").strip()


def everything(runs: Runs, sections: Sequence[Section]) -> dict[str, Any]:
    """Return all figures as JSON's types."""
    (here,) = runs.of("", MACHINE, "described")
    return {
        "machine": here,
        "bandwidth": [found["bandwidth"] for found in runs.of("", MACHINE, "bandwidth")],
        "checkpoints": {
            section.name: {
                row.system.label: {
                    "bits": row.system.bits,
                    "error": row.error,
                    "agreement": row.agreement,
                    "figures": {
                        figure_of(key).heading: asdict(spread)
                        for key, spread in row.figures.items()
                    },
                }
                for row in section.rows
            }
            for section in sections
        },
    }


def readme_part(section: Section, on: str, docs: str) -> str:
    """Return what the README shows of it: a picture, and a line for each width of weights."""
    keys = ("step after 512", "first token of 512")
    headings = ["weights"]
    for title, key in zip(("decoding ", ""), keys, strict=True):
        headings += [title + figure_of(key).heading, "best other"]
    lines = []
    for bits in WIDTHS:
        pairs = ((row, key) for key in keys for row in rivals(section.rows, bits, key))
        lines.append([f"{bits} bits", *(named(row, key) for row, key in pairs)])
    picture = f"![decoding and first token of GPT-2's shape]({docs}/benchmarks-speed.svg)"
    more = f"[All systems, all figures]({docs}/benchmarks.md)."
    return f"{picture}\n\n{markdown(headings, lines)}\nGPT-2's shape. {on} {more}"


def named(row: Row | None, key: str) -> str:
    """Return a row's figure and whose it is."""
    return f"{figure_of(key).written(row.figures[key].median)}, {short(row)}" if row else ""


def put_between(text: str, part: str) -> str:
    """Return the text with the part between its two markers.

    Raises:
        ValueError: a marker is missing.
    """
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"needs the lines {BEGIN!r} and {END!r}")
    return f"{before}{BEGIN}\n{part.strip()}\n{END}{after}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--docs", type=Path, help="where the page goes; OUT by default")
    parser.add_argument("--readme", type=Path, help="whose part to write anew, too")
    arguments = parser.parse_args()
    docs = arguments.docs or arguments.out
    runs = Runs(arguments.out / "runs.jsonl")
    sections = [
        Section.of(runs, name) for name in TITLES if any(r.checkpoint == name for r in runs)
    ]
    content = json.dumps(everything(runs, sections), indent=2)
    (arguments.out / "figures.json").write_text(content, "utf-8")
    (docs / "benchmarks.md").write_text(page(runs, sections), "utf-8")
    for section in sections:
        if section.name == MAIN:
            draw_speed(section.rows, docs / "benchmarks-speed.svg")
        if section.name == BUNDLED:
            draw_quality(section.rows, "step after 256", docs / "benchmarks-quality.svg")
    if arguments.readme:
        (main_section,) = (section for section in sections if section.name == MAIN)
        part = readme_part(main_section, on_what(runs), docs.name)
        text = put_between(arguments.readme.read_text("utf-8"), part)
        arguments.readme.write_text(text, "utf-8")
    print(f"{docs / 'benchmarks.md'}: {sum(len(section.rows) for section in sections)} rows")


if __name__ == "__main__":
    main()
