"""GPT-2's own sizes, 124 million and 1.56 billion parameters, with generated weights."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from transformers import GPT2Config, GPT2LMHeadModel, GPT2TokenizerFast

from pocketgpt_export import export
from pocketgpt_export.proof.prove import TOLERANCE

XL = {"vocab_size": 50257, "n_positions": 1024, "n_embd": 1600, "n_layer": 48, "n_head": 25}
LAYERS_IN_A_SHARD = 8
# In a process of its own: what it prints is its own peak, in bytes.
EXPORT = """
import resource, sys
from pocketgpt_export import export
export(sys.argv[1], sys.argv[2], progress=lambda *step: print(*step, file=sys.stderr))
print(1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def size_of(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


@pytest.mark.slow
def test_gpt2_exports_without_a_second_embedding(
    make_gpt2: Callable[..., GPT2LMHeadModel], tiny_checkpoint: Path, tmp_path: Path
) -> None:
    shape = {"vocab_size": 50257, "n_positions": 1024, "n_embd": 768, "n_layer": 12, "n_head": 12}
    make_gpt2(**shape, initializer_range=0.02).save_pretrained(tmp_path / "gpt2")
    GPT2TokenizerFast.from_pretrained(tiny_checkpoint).save_pretrained(tmp_path / "gpt2")
    manifest = export(tmp_path / "gpt2", tmp_path / "folder")
    assert max(manifest.proof.values()) <= TOLERANCE
    assert size_of(tmp_path / "folder") < 505_000_000


def write_shards(config: GPT2Config, folder: Path) -> int:
    """Write random weights, never more than a shard of them in memory; return their bytes."""
    with torch.device("meta"):
        shapes = {name: p.shape for name, p in GPT2LMHeadModel(config).named_parameters()}
    random = torch.Generator().manual_seed(5)

    def tensor(name: str) -> torch.Tensor:
        centre = 1.0 if ".ln_" in name and name.endswith("weight") else 0.0
        return centre + 0.02 * torch.randn(shapes[name], generator=random)

    def shard_of(name: str) -> str:
        parts = name.split(".")
        number = int(parts[2]) // LAYERS_IN_A_SHARD + 1 if parts[1] == "h" else 0
        return f"model-{number}.safetensors"

    placed = {name: shard_of(name) for name in shapes}
    for file in sorted(set(placed.values())):
        names = [name for name in shapes if placed[name] == file]
        save_file({name: tensor(name) for name in names}, folder / file, {"format": "pt"})
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": placed}), "utf-8")
    return 4 * sum(shape.numel() for shape in shapes.values())


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="the peak is in bytes elsewhere")
def test_gpt2_xl_exports_in_little_more_than_its_weights(
    tiny_checkpoint: Path, tmp_path: Path
) -> None:
    """1.56 billion parameters, sharded: external data beyond 2 GB, peak memory, the folder's size.

    The peak counts the mapped pages of the checkpoint's files too.
    """
    checkpoint, folder = tmp_path / "gpt2-xl", tmp_path / "folder"
    GPT2TokenizerFast.from_pretrained(tiny_checkpoint).save_pretrained(checkpoint)
    config = GPT2Config(**XL, bos_token_id=0, eos_token_id=0)
    config.save_pretrained(checkpoint)
    weights = write_shards(config, checkpoint)
    command = [sys.executable, "-c", EXPORT, str(checkpoint), str(folder)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    assert "proving it equals PyTorch 1 1" in done.stderr
    proof = json.loads((folder / "pocketgpt.json").read_text("utf-8"))["proof"]
    peak, size = int(done.stdout), size_of(folder)
    print(f"peak {peak / weights:.3f} and folder {size / weights:.4f} of the weights; {proof}")
    assert max(proof.values()) <= TOLERANCE
    assert size <= 1.01 * weights
    assert peak <= 1.6 * weights
