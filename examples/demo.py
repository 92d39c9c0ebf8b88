"""The main job on the bundled checkpoint: export, quantize, generate with every variant, compare.

python examples/demo.py [CHECKPOINT] [PROMPT]
"""

from __future__ import annotations

import os
import sys
from functools import cache
from pathlib import Path

from rich.console import Console
from rich.table import Table

import pocketgpt
from pocketgpt_export import export
from pocketgpt_quantize import quantize

MODELS = Path(__file__).resolve().parent.parent / "models"
PROMPT = "Once upon a time there was a little girl who"
NEW_TOKENS = 60

console = Console(highlight=False)


def stream(folder: Path, variant: str, prompt: str) -> pocketgpt.GenerationResult:
    """Print a variant's continuation as it is made."""
    model = pocketgpt.load(folder, variant)
    model.generate(prompt, max_new_tokens=2)  # the first run allocates; it is not the speed to show
    console.print(f"\n{variant}: ", style="bold", end="")
    print(prompt, end="", flush=True)
    pieces = model.stream(
        prompt, max_new_tokens=NEW_TOKENS, do_sample=True, temperature=0.8, top_p=0.95, seed=4
    )
    for piece in pieces:
        print(piece, end="", flush=True)
    print()
    assert pieces.result is not None
    return pieces.result


@cache
def announce(doing: str) -> None:
    """Say what is begun, once."""
    console.print(f"{doing} ...", style="dim")


def progress(doing: str, done: int, total: int) -> None:
    """Follow an export or a quantization."""
    announce(doing)


def main() -> None:
    checkpoint = Path(sys.argv[1]) if len(sys.argv) > 1 else MODELS / "pocket-tales"
    prompt = sys.argv[2] if len(sys.argv) > 2 else PROMPT
    folder = MODELS / "demo"
    manifest = export(checkpoint, folder, overwrite=True, progress=progress)
    reports = quantize(folder, ["int8", "q4"], progress=progress)
    made = {**manifest.variants, **{report.name: report.variant for report in reports}}

    table = Table("variant")
    for heading in ("MB", "perplexity", "change", "tokens/s", "first token, ms"):
        table.add_column(heading, justify="right")
    for name in made:
        timings = stream(folder, name, prompt).timings
        variant = pocketgpt.load(folder, name).manifest.variants[name]
        table.add_row(
            name,
            f"{variant.bytes / 1e6:.1f}",
            f"{variant.quality['perplexity']:.2f}",
            f"{variant.quality['loss']:+.2%}",
            f"{timings.tokens_per_second or 0:.0f}",
            f"{timings.time_to_first_token * 1e3:.1f}",
        )
    console.print()
    console.print(table)
    path = os.path.relpath(folder)
    console.print(
        f"\nThe model folder is {path}. Next: . .venv/bin/activate, and then", soft_wrap=True
    )
    console.print(f"pocketgpt generate {path} 'It was a dark night' --do-sample", soft_wrap=True)


if __name__ == "__main__":
    main()
