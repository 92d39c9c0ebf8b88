"""The shipped checkpoint's model card and its loss curve."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import matplotlib as mpl

mpl.use("Agg")
import matplotlib.pyplot as plt


@dataclass(frozen=True)
class Figures:
    """What was measured; mappings go by held-out work."""

    parameters: int
    steps: int
    tokens_per_step: int
    final_loss: float
    bits_per_byte: dict[str, float]
    xz: dict[str, float]
    bytes: dict[str, int]

    def mean(self, figures: dict[str, float]) -> float:
        """Return bits per byte over all works together."""
        total = sum(figures[work] * size for work, size in self.bytes.items())
        return total / sum(self.bytes.values())


def plot_losses(losses: list[tuple[int, float]], path: Path) -> None:
    """Plot (step, training loss in nats per token): text not seen before, as there is one epoch."""
    figure, axes = plt.subplots(figsize=(7, 4), layout="constrained")
    axes.plot(*zip(*losses, strict=True), linewidth=1)
    axes.set(xlabel="step (4096 tokens each)", ylabel="loss, nats per token", ylim=(4, 7))
    axes.grid(alpha=0.3)
    figure.savefig(path, dpi=110)


def write_card(path: Path, figures: Figures, training: list[str], heldout: list[str]) -> None:
    """Write the card. `training` and `heldout` are rows of the sources' Markdown table."""
    rows = "\n".join(
        f"| {work} | {figures.bytes[work]:,} | {bits:.3f} | {figures.xz[work]:.3f} |"
        for work, bits in figures.bits_per_byte.items()
    )
    path.write_text(
        _CARD.format(
            parameters=figures.parameters,
            steps=figures.steps,
            tokens=figures.steps * figures.tokens_per_step,
            final_loss=figures.final_loss,
            rows=rows,
            total=sum(figures.bytes.values()),
            mean=figures.mean(figures.bits_per_byte),
            xz=figures.mean(figures.xz),
            training="\n".join(training),
            heldout="\n".join(heldout),
        ),
        "utf-8",
    )


_CARD = """\
---
license: apache-2.0
language: en
library_name: transformers
pipeline_tag: text-generation
---
# pocket-tales

A GPT-2 of {parameters:,} parameters that tells stories in the manner of its training text: public
domain novels and tales, most of them for children, printed before 1928. It exists so that PocketGPT
can be tried and tested without a download. It knows nothing of today's world, and its sentences
make more sense than its plots.

- Architecture: `GPT2LMHeadModel`, 6 layers of width 256, 4 heads of 64, context 512.
- Tokenizer: byte-level BPE of 8,448 tokens, trained on the training text. `<|endoftext|>` stands
  before every work, begins an empty prompt and ends a text; `<|pad|>` is never in a text.
- Weights: float16 safetensors, trained in float32.
- `evaluation.txt` holds the openings of the held-out works, `calibration.txt` openings of sixteen
  training works.

## Training

{steps:,} steps of 8 x 512 tokens, {tokens:,} tokens in all, less than one epoch: the training loss
below is on text not seen before. Muon for the layers' matrices and AdamW for the rest, peak
learning rate 0.005, held for 45% of the steps and then falling to zero. The mean loss of the last
100 steps was {final_loss:.3f} nats per token.

![training loss](loss.png)

## Held-out works

Whole works, none of whose paragraphs is in the training text. Bits per byte with sliding windows of
512 tokens, 256 apart, measured on the shipped weights; beside it what `xz -9` needs.

| work | bytes | bits per byte | xz -9 |
|---|---:|---:|---:|
{rows}
| all | {total:,} | **{mean:.3f}** | {xz:.3f} |

## Made by

    pip install -c constraints.txt -e '.[train]'
    python models/recipe/train.py TEXTS WORK --steps {steps}
    python models/recipe/finish.py WORK TEXTS HELDOUT SOURCES.md models/pocket-tales

## Training text

| file | title | author | year | source | basis | bytes | sha256 |
|---|---|---|---|---|---|---:|---|
{training}

## Held-out text

| file | title | author | year | source | basis | bytes | sha256 |
|---|---|---|---|---|---|---:|---|
{heldout}
"""
