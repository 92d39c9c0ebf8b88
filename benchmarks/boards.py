"""What small boards can expect of a model folder: instructions, memory, bandwidth and wheels.

    python benchmarks/boards.py FOLDER build/boards.json      measure, with valgrind there
    python benchmarks/boards.py FOLDER build/boards.json --wheels     ask the package index too
    python benchmarks/boards.py FOLDER build/boards.json --write docs/boards.md

Instructions are counted by callgrind, on x86-64 without AVX-512: the same number every time. Peak
memory is that of a process of its own. Tokens a second of a board are not measured: they are the
ceiling that its memory sets, and marked so.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import wheels
from machine import described, peak_memory
from tables import markdown

import pocketgpt

VARIANTS = ("fp32", "int8", "q8", "q4")
PROMPT = list(range(100, 132))
STEPS = 64
TOKENS = 100
GPT2 = {"fp32": 497.6e6, "int8": 132.8e6, "q4": 75.9e6}  # bytes, of docs/benchmarks.md

# Transfers a second times the bytes of the bus: what memory could give at most.
BOARDS = {
    "Raspberry Pi 4": (3200e6 * 4, "LPDDR4-3200, 32 bits wide"),
    "Raspberry Pi 5": (4267e6 * 4, "LPDDR4X-4267, 32 bits wide"),
    "a phone with a Snapdragon 8 Gen 3": (9600e6 * 8, "LPDDR5X at 4,800 MHz, 64 bits wide"),
}
SHARE = 0.5  # of it that a few cores get; an assumption


def counted_steps(folder: Path, variant: str) -> None:
    """Decode some tokens, counting under callgrind (`--instr-atstart=no`) only these."""

    def count(switch: str) -> None:
        subprocess.run(
            ["callgrind_control", "-i", switch, str(os.getpid())],
            check=True,
            stdout=subprocess.DEVNULL,
        )

    decoder = pocketgpt.load(folder, variant, threads=1, kv_cache="float").new_decoder()
    decoder.prefill(PROMPT)
    decoder.step(5)  # the first lays out memory
    count("on")
    for token_id in range(STEPS):
        decoder.step(token_id)
    count("off")


def instructions(folder: Path, variant: str) -> float | None:
    """Return the instructions of a token, of 64 behind 33; None without valgrind."""
    if shutil.which("callgrind_control") is None:
        return None
    with tempfile.TemporaryDirectory() as place:
        found = Path(place) / "callgrind"
        tool = ["valgrind", "--tool=callgrind", "--instr-atstart=no"]
        _child([*tool, f"--callgrind-out-file={found}"], folder, variant, "--count")
        totals = re.search(r"^totals: (\d+)", found.read_text("utf-8"), re.MULTILINE)
    assert totals is not None
    return int(totals[1]) / STEPS


def generate_once(folder: Path, variant: str) -> None:
    """Generate, and print the peak memory of this process."""
    model = pocketgpt.load(folder, variant)
    model.generate("Once upon a time", max_new_tokens=TOKENS, eos_token_id=[])
    print(peak_memory())


def _child(before: list[str], folder: Path, variant: str, what: str) -> str:
    script = [sys.executable, __file__, str(folder), variant, what]
    return subprocess.run([*before, *script], check=True, capture_output=True, text=True).stdout


def bytes_of(folder: Path, variant: str) -> int:
    """Return the bytes of a variant's weights: what a token reads, but for a few rows."""
    files = json.loads((folder / "pocketgpt.json").read_text("utf-8"))["variants"][variant]["files"]
    return sum(record["bytes"] for record in files)


def measure(folder: Path) -> dict[str, Any]:
    """Return what this machine can tell of every variant."""
    rows = {}
    for variant in VARIANTS:
        rows[variant] = {
            "bytes": bytes_of(folder, variant),
            "instructions": instructions(folder, variant),
            "peak": int(_child([], folder, variant, "--peak")),
        }
        print(variant, rows[variant], file=sys.stderr)
    return {"machine": described(1), "variants": rows}


def page(found: dict[str, Any]) -> str:
    """Return docs/boards.md."""
    rows = found["variants"]
    measured = markdown(
        ["variant", "MB", "million instructions a token", "peak memory, MB"],
        [
            [
                name,
                f"{row['bytes'] / 1e6:.1f}",
                f"{row['instructions'] / 1e6:.1f}" if row["instructions"] else "",
                f"{row['peak'] / 1e6:.0f}",
            ]
            for name, row in rows.items()
        ],
    )

    estimated = markdown(
        [
            "memory",
            "gigabytes a second, at most",
            *(f"GPT-2 {name}, tok/s, estimated" for name in GPT2),
        ],
        [
            [
                f"{board}: {memory}",
                f"{rate / 1e9:.1f}",
                *(
                    f"{SHARE * rate / size:.0f}, at most {rate / size:.0f}"
                    for size in GPT2.values()
                ),
            ]
            for board, (rate, memory) in BOARDS.items()
        ],
    )
    answers = found.get("wheels", {})
    resolved = markdown(
        ["system", *(f"Python {python}" for python in wheels.PYTHONS)],
        [
            [system, *("yes" if not gone else f"no {', '.join(gone)}" for gone in row.values())]
            for system, row in answers.items()
        ],
    )
    machine = found["machine"]
    return TEXT.format(
        tokens=TOKENS, date=machine["date"], system=machine["system"], measured=measured,
        estimated=estimated, resolved=resolved, share=f"{SHARE:.0%}",
    )  # fmt: skip


TEXT = """# ARM64 and small boards

`benchmarks/boards.py` wrote this page. Nobody has run PocketGPT on such a board yet; what ran is
said below, what is estimated is marked so.

## What was run

`make test-arm64` runs the runtime's tests on 64-bit ARM: natively, elsewhere beneath QEMU's
user-mode emulator, in a Debian root of its own with the wheels that a board would get. It runs them
as a Cortex-A72 (Raspberry Pi 4: no dot products of bytes) and as a processor with everything but
SVE, which is emulated 15 times slower. fp32, int8, q8 and q4 of the bundled checkpoint have to give
the logits that x86-64 gave, within the tolerance that the manifest states, and the same greedy
tokens but where that tolerance covers the margin. ONNX Runtime is 1.27 there: 1.30 and newer crash
at import in QEMU 7.2, which is the emulator's matter; QEMU 10 runs 1.32
(`make test-arm64 QEMU=... ARM_ONNXRUNTIME=1.32.0`).

## The bundled checkpoint

Instructions of a token behind texts of 33 to 96, counted by callgrind on x86-64 with AVX2, not on
ARM: they tell variants apart, not boards. Peak memory to start, import, load and generate {tokens}
tokens, measured on {date} on {system}.

{measured}
## Tokens a second: an estimate

Decoding reads every weight once a token. So memory sets a ceiling: its transfers a second times its
width, over a variant's bytes. The lower number takes {share} of it to arrive, an assumption. Sizes
are those of GPT-2's shape (docs/benchmarks.md). Without dot products of bytes, on a Pi 4, 4 and 8
bits may be bound by computing instead. A model as small as the bundled one is bound by the
runtime's own work. **These are estimates; none was measured.**

{estimated}
Kinds of memory are those that reviews give: of the
[Pi 4 and 5](https://www.worksprout.org/blog-details/raspberry-pi-5-vs-pi-4-embedded-developer-guide/),
of the [Snapdragon](https://droidholic.com/snapdragon-8-gen-3-launched/). Their widths, 32 and 64
bits, are assumed: the pages do not say them.

## Wheels

What the runtime needs (numpy, onnxruntime, tokenizers) from wheels alone, as `pip` resolves it;
`make test-wheels` asks again.

{resolved}
Where onnxruntime has no wheel:

- **Alpine and other musl systems**: use a glibc image (`python:3.13-slim`), or build ONNX Runtime.
- **32-bit ARM (armv7)**: run a 64-bit system; the Raspberry Pi 3, 4, 5 and Zero 2 W can. Otherwise
  build ONNX Runtime.
- **Android**: ONNX Runtime's package for Android apps, without Python, has the operators of these
  graphs; in a terminal, a glibc distribution beneath proot takes the Linux ARM64 wheels. Neither
  was tried.
- **macOS on Intel**: Python 3.13 or older, for which pip takes the newest release that has a wheel.
"""


def ask_for_wheels(found: dict[str, Any], keep: Path) -> None:
    """Ask for every system that `found` has no answer for, and keep each answer at once."""
    answers = found.setdefault("wheels", {})
    for system in wheels.SYSTEMS:
        if system not in answers:
            answers[system] = {python: wheels.missing(system, python) for python in wheels.PYTHONS}
            keep.write_text(json.dumps(found, indent=1), "utf-8")


def main() -> None:
    if sys.argv[3:] in (["--count"], ["--peak"]):
        run = counted_steps if sys.argv[3] == "--count" else generate_once
        return run(Path(sys.argv[1]), sys.argv[2])
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("results", type=Path)
    parser.add_argument("--wheels", action="store_true", help="ask the package index, and no more")
    parser.add_argument("--write", type=Path, help="write the page from what was found before")
    options = parser.parse_args()
    options.results.parent.mkdir(parents=True, exist_ok=True)
    found = json.loads(options.results.read_text("utf-8")) if options.results.exists() else {}
    if options.wheels:
        ask_for_wheels(found, options.results)
    elif options.write:
        options.write.write_text(page(found), "utf-8")
    else:
        found |= measure(options.folder)
        options.results.write_text(json.dumps(found, indent=1), "utf-8")
    return None


if __name__ == "__main__":
    main()
