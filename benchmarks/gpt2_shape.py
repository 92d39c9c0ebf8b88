"""A model folder of GPT-2's size and shape with generated weights, for measuring speed.

    python benchmarks/gpt2_shape.py FOLDER [--variant V]... [--graph fused|portable] [--adapters]
        [--keep CHECKPOINT] [--medium]

124 million parameters, 12 layers of width 768, a context of 1,024, a vocabulary of 50,257: what
speed depends on. What it writes is noise. `--medium` is gpt2-medium's shape, 355 million.
"""

from __future__ import annotations

import argparse
import itertools
import tempfile
from functools import cache
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

from pocketgpt_export import export
from pocketgpt_quantize import quantize

END = "<|endoftext|>"
MERGES = 50_000
TEXTS = {
    "evaluation.txt": "A thousand ships went out in the morning, and by night they were home.\n",
    "calibration.txt": "She counted them by moonlight; whenever one was missing, she wept.\n",
}
LINES = 40
MEDIUM = {"n_layer": 24, "n_embd": 1024, "n_head": 16}


def make_tokenizer() -> PreTrainedTokenizerFast:
    """Make a byte-level BPE of GPT-2's size: 256 bytes, 50,000 pairs of them, the end of text."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    merges = list(itertools.islice(itertools.product(alphabet, alphabet), MERGES))
    tokens = [*alphabet, *("".join(pair) for pair in merges), END]
    vocabulary = {token: token_id for token_id, token in enumerate(tokens)}
    tokenizer = Tokenizer(models.BPE(vocabulary, merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token=END, eos_token=END, unk_token=END
    )


@cache
def announce(doing: str) -> None:
    """Say what is begun, once: minutes pass."""
    print(f"{doing} ...", flush=True)


def progress(doing: str, done: int, total: int) -> None:
    """Follow an export or a quantization."""
    announce(doing)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--variant", action="append", help="to quantize to; may be repeated")
    parser.add_argument("--graph", help="fused or portable")
    parser.add_argument("--adapters", action="store_true", help="with places for LoRA adapters")
    parser.add_argument("--keep", type=Path, help="where to leave the checkpoint, too")
    parser.add_argument("--medium", action="store_true", help="gpt2-medium's shape")
    arguments = parser.parse_args()
    torch.manual_seed(0)
    shape = MEDIUM if arguments.medium else {}
    with tempfile.TemporaryDirectory() as temporary:
        scratch = arguments.keep or Path(temporary)
        GPT2LMHeadModel(GPT2Config(**shape)).save_pretrained(scratch)
        make_tokenizer().save_pretrained(scratch)
        for name, line in TEXTS.items():
            (scratch / name).write_text(LINES * line, "utf-8")
        export(
            scratch,
            arguments.folder,
            graph=arguments.graph,
            adapters=arguments.adapters,
            progress=progress,
        )
        if arguments.variant:
            quantize(arguments.folder, arguments.variant, accept_loss=True, progress=progress)


if __name__ == "__main__":
    main()
