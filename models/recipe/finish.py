"""Turn what train.py made into the shipped checkpoint: weights, texts, measured figures, card.

    python models/recipe/finish.py WORK TEXTS HELDOUT SOURCES.md models/pocket-tales

`SOURCES.md` has a Markdown table row for every text: file, title, author, year, source, licence
basis, bytes, sha256. A text without a row, or other than its sha256, is refused.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from pathlib import Path

import torch
from transformers import GenerationConfig, GPT2LMHeadModel, GPT2TokenizerFast

from card import Figures, plot_losses, write_card
from heldout import bits_per_byte, xz_bits_per_byte

EVALUATION_BYTES, CALIBRATION_BYTES = 13_000, 4_000  # of each work taken
CALIBRATION_WORKS = 16


def opening(path: Path, size: int) -> str:
    """Return the work's first whole paragraphs, about `size` bytes of them."""
    kept: list[str] = []
    total = 0
    for paragraph in path.read_text("utf-8").split("\n\n"):
        kept.append(paragraph)
        total += len(paragraph.encode("utf-8")) + 2
        if total >= size:
            break
    return "\n\n".join(kept) + "\n"


def read_sources(table: Path, texts: list[Path]) -> dict[str, str]:
    """Return each text's row of the table, by file name, its sha256 checked."""
    rows = {}
    for line in table.read_text("utf-8").splitlines():
        if line.count("|") >= 9 and ".txt" in line:
            rows[line.split("|")[1].strip()] = line
    for path in texts:
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        if digest not in rows.get(path.name, ""):
            raise SystemExit(f"{path} is not as {table} describes it (sha256 {digest})")
    return {path.name: rows[path.name] for path in texts}


def ship_model(work: Path, out: Path) -> GPT2LMHeadModel:
    """Write weights in float16, configuration and tokenizer; return the model as it was written."""
    model = GPT2LMHeadModel.from_pretrained(work, dtype=torch.float16)
    model.config.use_cache = True
    model.generation_config = GenerationConfig(
        bos_token_id=model.config.bos_token_id,
        eos_token_id=model.config.eos_token_id,
        pad_token_id=model.config.pad_token_id,
    )
    model.save_pretrained(out)
    shipped: GPT2LMHeadModel = GPT2LMHeadModel.from_pretrained(out, dtype=torch.float32).eval()
    return shipped


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("work", "texts", "heldout", "sources", "out"):
        parser.add_argument(name, type=Path)
    arguments = parser.parse_args()
    training = sorted(arguments.texts.glob("*.txt"))
    heldout = sorted(arguments.heldout.glob("*.txt"))
    sources = read_sources(arguments.sources, training + heldout)

    model = ship_model(arguments.work / "final", arguments.out)
    tokenizer = GPT2TokenizerFast.from_pretrained(arguments.work / "tokenizer")
    tokenizer.save_pretrained(arguments.out)
    evaluation = "\n".join(opening(path, EVALUATION_BYTES) for path in heldout)
    (arguments.out / "evaluation.txt").write_text(evaluation, "utf-8")
    every = len(training) // CALIBRATION_WORKS
    chosen = training[::every][:CALIBRATION_WORKS]
    calibration = "\n".join(opening(path, CALIBRATION_BYTES) for path in chosen)
    (arguments.out / "calibration.txt").write_text(calibration, "utf-8")

    state = json.loads((arguments.work / "checkpoints" / "trainer_state.json").read_text("utf-8"))
    losses = [(row["step"], row["loss"]) for row in state["log_history"] if "loss" in row]
    plot_losses(losses, arguments.out / "loss.png")
    figures = Figures(
        parameters=sum(parameter.numel() for parameter in model.parameters()),
        steps=state["global_step"],
        tokens_per_step=8 * model.config.n_positions,
        final_loss=sum(loss for _, loss in losses[-10:]) / 10,
        bits_per_byte={path.stem: bits_per_byte(model, tokenizer, path) for path in heldout},
        xz={path.stem: xz_bits_per_byte(path) for path in heldout},
        bytes={path.stem: path.stat().st_size for path in heldout},
    )
    write_card(
        arguments.out / "README.md",
        figures,
        [sources[path.name] for path in training],
        [sources[path.name] for path in heldout],
    )
    print(f"{figures.mean(figures.bits_per_byte):.4f} bits per byte on the held-out works")


if __name__ == "__main__":
    main()
