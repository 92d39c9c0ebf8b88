"""Make the model folders that the tests of devices open, where PyTorch is: they run without it.

    python tests/devices/folders.py FOLDER

FOLDER/fused has fp32, fp16, q4 and q4f16, FOLDER/portable fp32.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import torch
from transformers import GPT2Config, GPT2LMHeadModel

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.conftest import SENTENCES, make_tokenizer

from pocketgpt_export import export
from pocketgpt_quantize import quantize


def write_checkpoint(folder: Path) -> None:
    """Write a random model that has a mind of its own, and a context of some blocks."""
    tokenizer = make_tokenizer()
    shape = {"n_embd": 128, "n_head": 2, "n_layer": 2, "n_positions": 192}
    torch.manual_seed(11)
    config = GPT2Config(
        vocab_size=len(tokenizer), initializer_range=0.2, bos_token_id=0, eos_token_id=0, **shape
    )
    GPT2LMHeadModel(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    (folder / "evaluation.txt").write_text("\n".join(SENTENCES), "utf-8")
    (folder / "calibration.txt").write_text("\n".join(reversed(SENTENCES)), "utf-8")


def main() -> None:
    target = Path(sys.argv[1])
    with tempfile.TemporaryDirectory() as scratch:
        checkpoint = Path(scratch) / "checkpoint"
        write_checkpoint(checkpoint)
        export(checkpoint, target / "fused", overwrite=True)
        quantize(target / "fused", ["fp16", "q4", "q4f16"], accept_loss=True)
        export(checkpoint, target / "portable", graph="portable", overwrite=True)


if __name__ == "__main__":
    main()
