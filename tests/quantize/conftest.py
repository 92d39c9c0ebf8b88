"""A small GPT-2 as a model folder, with texts to measure and to calibrate on."""

from __future__ import annotations

import logging
import random
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel, GPT2TokenizerFast, PreTrainedTokenizerFast

from pocketgpt.folder.manifest import read_manifest, record_files, write_manifest
from pocketgpt_export import export
from pocketgpt_quantize.rounding.format import Floats, Format

from ..conftest import byte_level_bpe

FIGURES = {
    "perplexity",
    "bits_per_byte",
    "loss",
    "kl_mean",
    "kl_p99",
    "top1_agreement",
    "top5_agreement",
    "greedy_agreement",
}
WORDS = "the a king queen boy fox owl tree river stone said went saw found gave sang old red small"


def text_of(seed: int, words: int) -> str:
    """Return made-up sentences, the same for the same seed."""
    chooser = random.Random(seed)
    return " ".join(chooser.choice(WORDS.split()) for _ in range(words)) + ".\n"


def small_tokenizer() -> PreTrainedTokenizerFast:
    """Return a byte-level tokenizer that knows the made-up words."""
    tokenizer = byte_level_bpe([text_of(0, 500)], 320)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<|endoftext|>", eos_token="<|endoftext|>"
    )


def small_model(tokenizer: PreTrainedTokenizerFast) -> GPT2LMHeadModel:
    """Return a model trained for seconds: what it knows, rounding makes worse."""
    torch.manual_seed(0)
    config = GPT2Config(
        vocab_size=len(tokenizer),
        n_positions=128,
        n_embd=64,
        n_layer=2,
        n_head=2,
        bos_token_id=0,
        eos_token_id=0,
        resid_pdrop=0.0,
        embd_pdrop=0.0,
        attn_pdrop=0.0,
    )
    model = GPT2LMHeadModel(config)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    encoded = tokenizer.backend_tokenizer.encode(text_of(3, 8192)).ids
    ids = torch.tensor(encoded[: 64 * 128]).reshape(8, 8, 128)
    for step in range(40):
        batch = ids[step % 8]
        model(batch, labels=batch).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    model.eval()
    return model


@pytest.fixture(scope="session")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model folder with fp32 alone; not to be changed."""
    folder = tmp_path_factory.mktemp("exported")
    checkpoint = folder / "checkpoint"
    tokenizer = small_tokenizer()
    tokenizer.save_pretrained(checkpoint)
    small_model(tokenizer).save_pretrained(checkpoint)
    (checkpoint / "evaluation.txt").write_text(text_of(1, 400), "utf-8")
    (checkpoint / "calibration.txt").write_text(text_of(2, 400), "utf-8")
    export(checkpoint, folder / "model")
    return folder / "model"


@pytest.fixture
def model_folder(exported: Path, tmp_path: Path) -> Path:
    """A copy of `exported` for one test."""
    return Path(shutil.copytree(exported, tmp_path / "model"))


@pytest.fixture(scope="module")
def folder_of_shape(
    tmp_path_factory: pytest.TempPathFactory,
    make_gpt2: Callable[..., GPT2LMHeadModel],
    tiny_checkpoint: Path,
) -> Callable[..., Path]:
    """`(graph, **shape)`: a folder of a larger model with generated weights."""

    def made(graph: str, **shape: int) -> Path:
        checkpoint = tmp_path_factory.mktemp("shape") / "checkpoint"
        make_gpt2(**shape, initializer_range=0.02).save_pretrained(checkpoint)
        GPT2TokenizerFast.from_pretrained(tiny_checkpoint).save_pretrained(checkpoint)
        for text, times in (("evaluation.txt", 1), ("calibration.txt", 2)):  # `mixed` splits it
            content = (tiny_checkpoint / text).read_text("utf-8")
            (checkpoint / text).write_text(times * content, "utf-8")
        export(checkpoint, checkpoint.with_name("folder"), graph=graph)
        shutil.rmtree(checkpoint)
        return checkpoint.with_name("folder")

    return made


Weights = dict[str, Floats]
Alter = Callable[[Path, Callable[[Weights], None]], None]


@pytest.fixture(scope="session")
def alter() -> Alter:
    """`(folder, change)`: let `change` alter the fp32 weights, by name; the manifest stays true."""

    def altered(folder: Path, change: Callable[[Weights], None]) -> None:
        path = folder / "onnx" / "model.onnx"
        model = ir.load(path)
        values = {n: v for n, v in model.graph.initializers.items() if n.startswith("transformer")}
        arrays = {n: v.const_value.numpy().copy() for n, v in values.items() if v.const_value}
        change(arrays)
        for name, array in arrays.items():
            values[name].const_value = ir.tensor(array, name=name)
        ir.save(model, path, external_data="model.onnx_data")
        manifest = read_manifest(folder)
        fp32 = manifest.variants["fp32"]
        records = record_files(folder, "fp32")
        write_manifest(folder, manifest.with_variant("fp32", replace(fp32, files=records)))

    return altered


@pytest.fixture(scope="session")
def onnxruntime_rounding() -> Callable[[Floats, Format], tuple[Any, Any, Any]]:
    """`(weight [out, in], form)` -> ONNX Runtime's own packed bytes, scales and zero points."""
    handlers = list(logging.getLogger().handlers)
    from onnxruntime.quantization.matmul_nbits_quantizer import (
        DefaultWeightOnlyQuantConfig,
        DefaultWeightOnlyQuantizer,
    )

    logging.getLogger().handlers[:] = handlers  # its import sets up the root logger

    def quantized(weight: Floats, form: Format) -> tuple[Any, Any, Any]:
        config = DefaultWeightOnlyQuantConfig(
            block_size=form.block_size, is_symmetric=form.symmetric, bits=form.bits
        )
        worker = DefaultWeightOnlyQuantizer(config)
        packed, scales, zeros = worker.qbits_block_quant(np.ascontiguousarray(weight.T))
        return packed, scales.reshape(packed.shape[:2]), zeros

    return quantized
