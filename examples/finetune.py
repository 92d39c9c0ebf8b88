"""Teach a GPT-2 your own text, then ship it: fine-tune, export, quantize, generate, score.

    python examples/finetune.py [TRAIN.TXT] [--checkpoint C] [--folder F] [--epochs N]

The last tenth of the text is kept from training, and scored before and after. As it stands it takes
the bundled checkpoint and the first chapters of The Sign of the Four (A. Conan Doyle, 1890), two
minutes on a laptop. For a GPT-2 of your own: `--checkpoint openai-community/gpt2`, a text of some
megabytes, BLOCK = 1024 if a GPU trains it, and LEARNING_RATE = 5e-5 (less for larger models).
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table
from transformers import (
    AutoTokenizer,
    DataCollatorForLanguageModeling,
    GPT2LMHeadModel,
    PreTrainedTokenizerBase,
    Trainer,
    TrainingArguments,
)

import pocketgpt
from pocketgpt_export import export
from pocketgpt_quantize import quantize

EXAMPLES = Path(__file__).resolve().parent
MODELS = EXAMPLES.parent / "models"
BLOCK = 256  # tokens of a training example, or the context where that is shorter
LEARNING_RATE = 2e-4
CALIBRATION = 40_000  # characters; quantizing looks at them
KEPT = 0.1  # share of the text that is scored, not trained on
PROMPT = "Sherlock Holmes took his"

console = Console(highlight=False)


def split(text: str) -> tuple[str, str]:
    """Return a text's part to train on and the end of it to score, cut between paragraphs."""
    cut = text.find("\n\n", int(len(text) * (1 - KEPT)))
    if cut < 0:
        cut = int(len(text) * (1 - KEPT))
    return text[:cut], text[cut:].strip()


def blocks(text: str, tokenizer: PreTrainedTokenizerBase, length: int) -> list[list[int]]:
    """Return a text's tokens in blocks of one length."""
    ids: list[int] = tokenizer(text, verbose=False)["input_ids"]
    return [ids[start : start + length] for start in range(0, len(ids) - length + 1, length)]


def train(checkpoint: str, text: str, epochs: float, folder: Path) -> None:
    """Fine-tune a checkpoint and save it, as transformers' own examples do."""
    tokenizer = AutoTokenizer.from_pretrained(checkpoint)
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    model = GPT2LMHeadModel.from_pretrained(checkpoint, dtype=torch.float32)
    length = min(BLOCK, model.config.n_positions)
    examples = blocks(text, tokenizer, length)
    if not examples:
        raise SystemExit(f"the text is too short: training takes {length} tokens or more")
    with tempfile.TemporaryDirectory() as scratch:
        arguments = TrainingArguments(
            scratch,
            num_train_epochs=epochs,
            learning_rate=LEARNING_RATE,
            per_device_train_batch_size=4,
            lr_scheduler_type="cosine",
            warmup_ratio=0.1,
            logging_steps=10,
            save_strategy="no",
            dataloader_pin_memory=torch.cuda.is_available(),
            report_to=[],
            seed=0,
        )
        collator = DataCollatorForLanguageModeling(tokenizer, mlm=False)
        Trainer(model, arguments, data_collator=collator, train_dataset=examples).train()
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("text", nargs="?", type=Path, default=EXAMPLES / "train.txt")
    parser.add_argument("--checkpoint", default=str(MODELS / "pocket-tales"))
    parser.add_argument("--folder", type=Path, default=MODELS / "finetuned")
    parser.add_argument("--epochs", type=float, default=2)
    arguments = parser.parse_args()

    to_train, to_score = split(arguments.text.read_text("utf-8"))
    table = Table("model")
    for heading in ("MB", "perplexity", "bits per byte"):
        table.add_column(heading, justify="right")

    def add_row(name: str, model: pocketgpt.Model) -> None:
        score = model.score(to_score)
        size = model.manifest.variants[model.variant].bytes / 1e6
        table.add_row(name, f"{size:.1f}", f"{score.perplexity:.2f}", f"{score.bits_per_byte:.3f}")

    with tempfile.TemporaryDirectory() as scratch:
        tuned = Path(scratch, "checkpoint")
        train(arguments.checkpoint, to_train, arguments.epochs, tuned)
        # What export finds beside the weights, quantize measures and calibrates on.
        (tuned / "evaluation.txt").write_text(to_score, "utf-8")
        (tuned / "calibration.txt").write_text(to_train[:CALIBRATION], "utf-8")
        console.print("exporting ...")
        export(arguments.checkpoint, Path(scratch, "before"))
        add_row("before, fp32", pocketgpt.load(Path(scratch, "before"), "fp32"))
        shutil.rmtree(Path(scratch, "before"))
        export(tuned, arguments.folder, overwrite=True)
    console.print("quantizing ...")
    quantize(arguments.folder, ["int8", "q4"])
    for variant in ("fp32", "int8", "q4"):
        add_row(f"after, {variant}", pocketgpt.load(arguments.folder, variant))

    model = pocketgpt.load(arguments.folder, "int8")
    console.print(f"\n[bold]{PROMPT}[/bold]", end="")
    for piece in model.stream(PROMPT, max_new_tokens=60, do_sample=True, top_p=0.9, seed=1):
        print(piece, end="", flush=True)
    print("\n")
    console.print(table)
    console.print(f"The model folder is {arguments.folder}.", soft_wrap=True)


if __name__ == "__main__":
    main()
