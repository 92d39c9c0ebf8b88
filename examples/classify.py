"""Fine-tune a GPT-2 to tell texts apart, then ship it: train, export, quantize, classify.

    python examples/classify.py [--checkpoint C] [--folder F] [--epochs N]

Two labels, paragraphs of a detective story and of tales; the last fifth of each is kept from
training. As it stands, on the bundled checkpoint, a minute or two. For texts of your own put them
into `paragraphs`.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table
from transformers import (
    AutoTokenizer,
    DataCollatorWithPadding,
    GPT2ForSequenceClassification,
    Trainer,
    TrainingArguments,
)

import pocketgpt
from pocketgpt_export import export
from pocketgpt_quantize import quantize

EXAMPLES = Path(__file__).resolve().parent
MODELS = EXAMPLES.parent / "models"
TEXTS = {
    "detective": EXAMPLES / "train.txt",
    "tale": MODELS / "pocket-tales" / "calibration.txt",
}
KEPT = 0.2  # share of the paragraphs that is classified, not trained on
MOST_TOKENS = 128
LEARNING_RATE = 2e-4
TRY = ("The inspector examined the footprints under the window.", "Once there was a poor miller.")

console = Console(highlight=False)


def paragraphs() -> dict[str, list[str]]:
    """Return texts by their labels, as many of each."""
    found = {
        label: [part for part in path.read_text("utf-8").split("\n\n") if len(part) > 120]
        for label, path in TEXTS.items()
    }
    fewest = min(map(len, found.values()))
    return {label: texts[:fewest] for label, texts in found.items()}


def train(checkpoint: str, texts: dict[str, list[str]], epochs: float, folder: Path) -> None:
    """Fine-tune a checkpoint with a head for the labels and save it."""
    tokenizer = AutoTokenizer.from_pretrained(checkpoint)
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    model = GPT2ForSequenceClassification.from_pretrained(
        checkpoint,
        dtype=torch.float32,
        id2label=dict(enumerate(texts)),
        label2id={label: number for number, label in enumerate(texts)},
        pad_token_id=tokenizer.pad_token_id,
    )
    examples = [
        {**tokenizer(text, truncation=True, max_length=MOST_TOKENS), "labels": number}
        for number, label in enumerate(texts)
        for text in texts[label]
    ]
    with tempfile.TemporaryDirectory() as scratch:
        arguments = TrainingArguments(
            scratch,
            num_train_epochs=epochs,
            learning_rate=LEARNING_RATE,
            per_device_train_batch_size=8,
            warmup_ratio=0.1,
            save_strategy="no",
            dataloader_pin_memory=torch.cuda.is_available(),
            report_to=[],
            seed=0,
        )
        collator = DataCollatorWithPadding(tokenizer)
        Trainer(model, arguments, data_collator=collator, train_dataset=examples).train()
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--checkpoint", default=str(MODELS / "pocket-tales"))
    parser.add_argument("--folder", type=Path, default=MODELS / "classifier")
    parser.add_argument("--epochs", type=float, default=2)
    arguments = parser.parse_args()

    texts = paragraphs()
    cut = {label: int(len(some) * (1 - KEPT)) for label, some in texts.items()}
    kept = {label: some[cut[label] :] for label, some in texts.items()}
    with tempfile.TemporaryDirectory() as scratch:
        tuned = Path(scratch, "checkpoint")
        learned = {label: some[: cut[label]] for label, some in texts.items()}
        train(arguments.checkpoint, learned, arguments.epochs, tuned)
        # One text a line: what quantize measures the variants' labels on.
        lines = [text.replace("\n", " ") for some in kept.values() for text in some]
        (tuned / "evaluation.txt").write_text("\n".join(lines), "utf-8")
        console.print("exporting ...")
        export(tuned, arguments.folder, overwrite=True)
    console.print("quantizing ...")
    quantize(arguments.folder, ["int8"])

    table = Table("variant")
    for heading in ("MB", "right"):
        table.add_column(heading, justify="right")
    for variant in ("fp32", "int8"):
        model = pocketgpt.load(arguments.folder, variant)
        right = [
            found.label == label
            for label, some in kept.items()
            for found in model.classify(some, truncation=True)
        ]
        size = model.manifest.variants[variant].bytes / 1e6
        table.add_row(variant, f"{size:.1f}", f"{sum(right)} of {len(right)}")
    console.print(table)
    for text, found in zip(TRY, model.classify(list(TRY)), strict=True):
        console.print(f"{text} [bold]{found.label}[/bold] ({found.probability:.0%})")
    console.print(f"The model folder is {arguments.folder}.", soft_wrap=True)


if __name__ == "__main__":
    main()
