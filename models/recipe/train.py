"""Train the bundled checkpoint from a folder of texts: tokenizer, then model. Resumable.

    python models/recipe/train.py TEXTS WORK [--steps N]

Run again after an interruption, it goes on from the newest checkpoint in WORK. `--steps` may be
changed between runs as long as the learning rate has not begun to fall (at 45% of the steps).
`finish.py` turns WORK into the shipped folder.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from torch import Tensor
from torch.optim.lr_scheduler import LambdaLR
from transformers import (
    DataCollatorForLanguageModeling,
    GPT2Config,
    GPT2LMHeadModel,
    GPT2TokenizerFast,
    Trainer,
    TrainingArguments,
    set_seed,
)
from transformers.trainer_utils import get_last_checkpoint

from loss import chunked_cross_entropy
from muon import MuonWithAdamW

VOCABULARY, CONTEXT = 8448, 512
BOUNDARY, PAD = "<|endoftext|>", "<|pad|>"
BATCH, PEAK_LR, WARMUP, HOLD = 8, 5e-3, 60, 0.45


def train_tokenizer(texts: list[Path]) -> GPT2TokenizerFast:
    """Return a byte-level BPE tokenizer trained on `texts`, split as GPT-2's."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=[BOUNDARY, PAD],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )
    tokenizer.train([str(path) for path in texts], trainer)
    return GPT2TokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=BOUNDARY,
        eos_token=BOUNDARY,
        unk_token=BOUNDARY,
        pad_token=PAD,
        model_max_length=CONTEXT,
        clean_up_tokenization_spaces=False,
    )


def pack(texts: list[Path], tokenizer: GPT2TokenizerFast) -> list[dict[str, list[int]]]:
    """Join the works, a boundary token before each, and cut the stream into full contexts."""
    stream: list[int] = []
    for path in texts:
        stream.append(tokenizer.bos_token_id)
        stream += tokenizer.backend_tokenizer.encode(path.read_text("utf-8")).ids
    starts = range(0, len(stream) - CONTEXT + 1, CONTEXT)
    return [{"input_ids": stream[start : start + CONTEXT]} for start in starts]


def build_model(tokenizer: GPT2TokenizerFast) -> GPT2LMHeadModel:
    """Return the untrained model: 7.0 million parameters, heads of 64, no dropout (one epoch)."""
    config = GPT2Config(
        vocab_size=VOCABULARY,
        n_positions=CONTEXT,
        n_embd=256,
        n_layer=6,
        n_head=4,
        resid_pdrop=0.0,
        embd_pdrop=0.0,
        attn_pdrop=0.0,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        use_cache=False,
    )
    return GPT2LMHeadModel(config)


class PackedTrainer(Trainer):
    """Trainer with the body compiled and the loss of loss.py; batches are full, without padding."""

    def __init__(self, model: GPT2LMHeadModel, **kwargs: Any) -> None:
        super().__init__(model=model, **kwargs)
        self.body = torch.compile(model.transformer)

    def compute_loss(
        self, model: Any, inputs: dict[str, Tensor], *args: Any, **kwargs: Any
    ) -> Tensor:
        hidden = self.body(input_ids=inputs["input_ids"]).last_hidden_state
        labels = inputs["labels"][:, 1:].reshape(-1)
        rows = hidden[:, :-1].reshape(len(labels), -1)
        return chunked_cross_entropy(rows, model.lm_head.weight, labels)


def schedule(steps: int, step: int) -> float:
    """Linear warm-up, a plateau, then a linear fall to zero; a share of the peak rate."""
    fall = (steps - step) / (steps * (1 - HOLD))
    return min((step + 1) / WARMUP, 1.0, fall)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("texts", type=Path, help="folder of .txt files to train on")
    parser.add_argument("work", type=Path, help="folder for the tokenizer and checkpoints")
    parser.add_argument("--steps", type=int, default=2600, help="of 8 x 512 tokens each")
    arguments = parser.parse_args()

    set_seed(17)
    texts = sorted(arguments.texts.glob("*.txt"))
    if not texts:
        parser.error(f"no .txt files in {arguments.texts}")
    tokenizer_folder = arguments.work / "tokenizer"
    if (tokenizer_folder / "tokenizer.json").exists():
        tokenizer = GPT2TokenizerFast.from_pretrained(tokenizer_folder)
    else:
        tokenizer = train_tokenizer(texts)
        tokenizer.save_pretrained(tokenizer_folder)
    model = build_model(tokenizer)
    optimizer = MuonWithAdamW(model, lr=PEAK_LR)
    trainer = PackedTrainer(
        model=model,
        args=TrainingArguments(
            output_dir=str(arguments.work / "checkpoints"),
            max_steps=arguments.steps,
            per_device_train_batch_size=BATCH,
            max_grad_norm=1.0,
            logging_steps=10,
            save_steps=100,
            save_total_limit=2,
            report_to=[],
            seed=17,
            dataloader_pin_memory=torch.cuda.is_available(),
        ),
        train_dataset=pack(texts, tokenizer),
        data_collator=DataCollatorForLanguageModeling(tokenizer, mlm=False),
        optimizers=(
            optimizer,
            LambdaLR(optimizer, lambda step: schedule(arguments.steps, step)),
        ),
    )
    checkpoints = arguments.work / "checkpoints"
    last = get_last_checkpoint(str(checkpoints)) if checkpoints.is_dir() else None
    trainer.train(resume_from_checkpoint=last)
    trainer.save_model(str(arguments.work / "final"))
    trainer.save_state()


if __name__ == "__main__":
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
    main()
