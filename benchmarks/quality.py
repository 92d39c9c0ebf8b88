"""What each way of rounding to 4 or 8 bits costs: size, perplexity, divergence, agreement.

    python benchmarks/quality.py FOLDER [--bytes N] [--plot FILE]

FOLDER is a model folder with its fp32 variant, evaluation.txt and calibration.txt. Every row is a
whole model, written, opened and measured as `pocketgpt quantize` does it; positions are stored in 8
bits in all of them. The table is Markdown. HQQ (needs torch) finds zeros between whole numbers,
which the shared embedding's lookup cannot store: they are rounded here.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

import pocketgpt
from pocketgpt.config import read_config
from pocketgpt.manifest import FileRecord, Variant, read_manifest, variant_path, write_manifest
from pocketgpt_quantize.blockwise import BlockwiseWeight, Floats, Format, Rounded, quantize_weight
from pocketgpt_quantize.gptq import DAMPING, EMBEDDING_DAMPING, gptq
from pocketgpt_quantize.grid import SHRINKS, encode, round_to_nearest
from pocketgpt_quantize.methods import Moments
from pocketgpt_quantize.plot import plot
from pocketgpt_quantize.quality import Reference
from pocketgpt_quantize.rewrite import write_blockwise
from pocketgpt_quantize.schemes import Q4, Kind

Rounding = Callable[[Floats, Format], Rounded]
POSITIONS = Format(8, 64)
COLUMNS = ("loss", "kl_mean", "kl_p99", "top1_agreement", "top5_agreement", "greedy_agreement")


def searched(weight: Floats, form: Format) -> Rounded:
    """Round to nearest on the grid of least squared error."""
    return round_to_nearest(weight, form, SHRINKS)


def k_quant(weight: Floats, form: Format) -> Rounded:
    """ONNX Runtime's k-quant, after llama.cpp's."""
    from onnxruntime.quantization.neural_compressor.weight_only import quant_tensor_k_quant_cpu

    rows, inputs = weight.shape
    with np.errstate(divide="ignore", invalid="ignore"):  # its search divides by 0 and drops it
        codes, scales, zeros = quant_tensor_k_quant_cpu(weight, form.bits, form.block_size)
    by_row = scales.reshape(rows, -1).astype(np.float32), zeros.reshape(rows, -1).astype(np.uint8)
    return codes.reshape(rows, inputs).astype(np.uint8), *by_row


def hqq(weight: Floats, form: Format) -> Rounded:
    """ONNX Runtime's HQQ, zeros rounded."""
    import torch
    from onnxruntime.quantization.matmul_nbits_quantizer import (
        HQQWeightOnlyQuantConfig,
        HQQWeightOnlyQuantizer,
    )

    quantizer = HQQWeightOnlyQuantizer(HQQWeightOnlyQuantConfig(form.block_size, form.bits))
    _, scales, zeros = quantizer.quantize_internal(
        torch.from_numpy(weight), form.bits, group_size=form.block_size
    )
    scale = scales.numpy().astype(np.float32)
    zero = np.clip(np.rint(zeros.numpy()), 0, form.top).astype(np.uint8)
    wide_scale = np.repeat(scale, form.block_size, axis=1)
    wide_zero = np.repeat(zero, form.block_size, axis=1)
    return encode(weight, wide_scale, wide_zero, form), scale, zero


class Bench:
    """One folder, one text, models made one after another in a scratch folder."""

    def __init__(self, folder: Path, scratch: Path, limit: int | None) -> None:
        self.source = folder / variant_path("fp32")
        self.config = read_config(folder)
        self.scratch = scratch
        self.manifest = read_manifest(folder)
        for path in folder.iterdir():
            if path.is_file():
                shutil.copy(path, scratch)
        for name in ("onnx", "distributions"):
            (scratch / name).mkdir()
        model = pocketgpt.load(folder, "fp32")
        text = (folder / "evaluation.txt").read_bytes()[:limit].decode("utf-8", "ignore")
        self.calibration = model.tokenizer.encode((folder / "calibration.txt").read_text("utf-8"))
        self.reference = Reference(model, text, scratch / "distributions")

    def measure(
        self, layer: Format, embedding: Format, rounding_of: Callable[[str, Kind], Rounding]
    ) -> Variant:
        """Write a model with these formats and roundings, measure it, return its entry."""

        def quantizer(name: str, kind: Kind, weight: Floats) -> BlockwiseWeight:
            if kind == "positions":
                return quantize_weight(weight, POSITIONS, round_to_nearest)
            form = embedding if kind == "embedding" else layer
            return quantize_weight(weight, form, rounding_of(name, kind))

        path = variant_path("mixed")
        bits = write_blockwise(self.source, self.scratch / path, quantizer)
        records = tuple(FileRecord.of(self.scratch, file) for file in (path, f"{path}_data"))
        entry = Variant(records, bits)
        write_manifest(self.scratch, self.manifest.with_variant("mixed", entry))
        return replace(entry, quality=self.reference.compare(pocketgpt.load(self.scratch, "mixed")))

    def calibrated(self, layer: Format, embedding: Format) -> Variant:
        """Measure a model with these formats that GPTQ rounded."""
        return self.measure(layer, embedding, self.moments_rounding())

    def moments_rounding(self) -> Callable[[str, Kind], Rounding]:
        """Return GPTQ with this folder's calibration text."""
        moments = Moments(self.source, self.config, self.calibration)

        def rounding_of(name: str, kind: Kind) -> Rounding:
            damping = EMBEDDING_DAMPING if kind == "embedding" else DAMPING
            return gptq(moments.of(name), damping)

        return rounding_of

    def rows(self) -> dict[str, Callable[[], Variant]]:
        """Return what to measure, by label."""
        rows: dict[str, Callable[[], Variant]] = {}

        def add(label: str, form: Format, rounding: Rounding) -> None:
            rows[label] = lambda: self.measure(form, form, lambda name, kind: rounding)

        for size in (32, 64, 128):
            form = Format(8, size)
            add(f"8 bit, to nearest, {size}", form, round_to_nearest)
        for size in (32, 64, 128):
            form, floating = Format(4, size), Format(4, size, symmetric=False)
            add(f"4 bit, to nearest, {size}", form, round_to_nearest)
            add(f"4 bit, to nearest with zeros, {size}", floating, round_to_nearest)
            add(f"4 bit, searched with zeros, {size}", floating, searched)
            add(f"4 bit, k-quant, {size}", floating, k_quant)
            add(f"4 bit, HQQ, {size}", floating, hqq)
        for label, layer, embedding in (
            ("4 bit, GPTQ, 64", Format(4, 64), Format(4, 64)),
            ("4 bit, GPTQ with zeros, 64", Format(4, 64, False), Format(4, 64, False)),
            ("4 bit, GPTQ with zeros, 128 and 32", Format(4, 128, False), Format(4, 32, False)),
            ("q4: GPTQ with zeros, 64 and 32", Q4.layer, Q4.embedding),
        ):
            rows[label] = partial(self.calibrated, layer, embedding)
        return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--bytes", type=int, help="of the evaluation text; all by default")
    parser.add_argument("--plot", type=Path, help="draw size against quality into this file")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        bench = Bench(arguments.folder, Path(scratch), arguments.bytes)
        print("| | MB | " + " | ".join(COLUMNS) + " |")
        print("|---|" + "---|" * (len(COLUMNS) + 1))
        measured = {}
        for label, measure in bench.rows().items():
            measured[label] = entry = measure()
            figures = " | ".join(f"{entry.quality[name]:.5f}" for name in COLUMNS)
            print(f"| {label} | {entry.bytes / 1e6:.3f} | {figures} |", flush=True)
    if arguments.plot:
        plot(measured, arguments.plot)


if __name__ == "__main__":
    main()
