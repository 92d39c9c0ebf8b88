"""What each way of rounding to 4 or 8 bits costs: size, perplexity, divergence, agreement.

    python benchmarks/quality.py FOLDER [--bytes N] [--portable FOLDER] [--peers FILE]
                                 [--table FILE] [--plot FILE]

FOLDER is a model folder with its fp32 variant, evaluation.txt and calibration.txt. Every row is a
whole model, written, opened and measured as `pocketgpt quantize` does it. `--portable` names the
same checkpoint's portable folder, for int8_static; `--peers` adds the rows that benchmarks/peers.py
measured. The table is Markdown. In rows of one way of rounding, all weights have it, the embedding
too, but for the positions: 8 bits. HQQ (needs torch) finds zeros between whole numbers, which the
shared embedding's lookup cannot store: they are rounded here.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import shutil
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

import pocketgpt
from pocketgpt.folder.opening import open_folder
from pocketgpt_quantize import quantize
from pocketgpt_quantize.graph.rewrite import load_graph, quantize_blockwise, save
from pocketgpt_quantize.job import Job
from pocketgpt_quantize.measure.loading import open_sparingly
from pocketgpt_quantize.measure.quality import Passage, Reference
from pocketgpt_quantize.recipes.mixed import Mixer, mixed_scheme
from pocketgpt_quantize.recipes.registry import RECIPES
from pocketgpt_quantize.rounding.format import (
    BlockwiseWeight,
    Floats,
    Format,
    Rounded,
    quantize_weight,
)
from pocketgpt_quantize.rounding.grid import encode, round_to_nearest
from pocketgpt_quantize.rounding.scheme import Kind
from pocketgpt_quantize.texts import Text

Rounding = Callable[[Floats, Format], Rounded]
Rows = dict[str, dict[str, Any]]
POSITIONS = Format(8, 64)
COLUMNS = ("loss", "kl_mean", "kl_p99", "top1_agreement", "top5_agreement")
FRONT = ("**int8**", "**q4**", "**mixed**")
OURS = ("int8", "q4", "q8", "fp16", "q4f16")
MIXED = 6  # sizes of it between q4's and int8's


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
        self.opened = open_folder(folder, "fp32")
        self.source = self.opened.graph_path
        for name in ("onnx", "distributions"):
            (scratch / name).mkdir()
        model = pocketgpt.load(folder, "fp32")
        passage = Passage.of(read_text(folder, limit), model.tokenizer, model.config, 2**40)
        self.reference = Reference(
            model.graph, passage, scratch / "distributions", continuations=False
        )
        content = (self.opened.folder / "calibration.txt").read_bytes()
        calibration = Text(content.decode("utf-8"), hashlib.sha256(content).hexdigest())
        self.job = Job("mixed", self.opened, scratch, 0.0, calibration)

    def measure(self, write: Callable[[Path], object]) -> dict[str, Any]:
        """Let `write` make a model and measure it: `bytes` and `quality`."""
        target = self.job.target
        write(target)
        quality = self.reference.figures(
            "mixed", open_sparingly(target, self.opened.config, {"": 8})
        )
        weights = target.with_name(f"{target.name}_data")
        return {"bytes": target.stat().st_size + weights.stat().st_size, "quality": quality}

    def uniform(self, form: Format, rounding: Rounding, target: Path) -> None:
        """Write a model with one format and rounding for all weights but the positions."""

        def quantizer(name: str, kind: Kind, weight: Floats) -> BlockwiseWeight:
            if kind == "positions":
                return quantize_weight(weight, POSITIONS, round_to_nearest)
            return quantize_weight(weight, form, rounding)

        model = load_graph(self.source)
        quantize_blockwise(model.graph, quantizer)
        save(model, target)

    def ours(self, name: str, _: Path) -> None:
        """Write a variant as `pocketgpt quantize` does, to where `measure` looks for it."""
        RECIPES[name].make(self.job)

    def rows(self) -> dict[str, Callable[[Path], object]]:
        """Return what writes each model, by label."""
        rows: dict[str, Callable[[Path], object]] = {}
        for size in (32, 64, 128):
            rows[f"8 bit to nearest, {size}"] = partial(
                self.uniform, Format(8, size), round_to_nearest
            )
        for size in (32, 64, 128):
            form, floating = Format(4, size), Format(4, size, symmetric=False)
            rows[f"4 bit to nearest, {size}"] = partial(self.uniform, form, round_to_nearest)
            rows[f"4 bit k-quant, {size}"] = partial(self.uniform, floating, k_quant)
            rows[f"4 bit HQQ, {size}"] = partial(self.uniform, floating, hqq)
        for name in OURS:
            rows[f"**{name}**"] = partial(self.ours, name)
        mixer = Mixer(self.job)
        order = mixer.ranked()
        for step in range(1, MIXED + 1):
            count = len(order) * step // (MIXED + 1)
            scheme = mixed_scheme(order[:count])
            rows[f"**mixed**, {count} of {len(order)} in 8 bits"] = partial(mixer.write, scheme)
        return rows


def portable_row(folder: Path, limit: int | None) -> dict[str, Any]:
    """Make int8_static in a copy of a portable folder and measure it on the same text."""
    with tempfile.TemporaryDirectory() as scratch:
        copy = Path(shutil.copytree(folder, Path(scratch) / "folder"))
        text = Path(scratch) / "text.txt"
        text.write_text(read_text(folder, limit), "utf-8")
        (report,) = quantize(copy, ["int8_static"], eval_text=text, accept_loss=True)
    return {"bytes": report.variant.bytes, "quality": dict(report.variant.quality)}


def read_text(folder: Path, limit: int | None) -> str:
    """Return the text to measure on, or its first `limit` bytes."""
    return (folder / "evaluation.txt").read_bytes()[:limit].decode("utf-8", "ignore")


def above_the_line(rows: Rows) -> list[str]:
    """Return the mixed rows whose divergence is not below the line from q4 to int8."""
    ends = [rows[label] for label in ("**q4**", "**int8**")]
    sizes, divergences = ([pick(row) for row in ends] for pick in (_size, _divergence))
    return [
        label
        for label, row in rows.items()
        if label.startswith("**mixed**")
        and _divergence(row) >= np.interp(_size(row), sizes, divergences)
    ]


def _size(row: dict[str, Any]) -> float:
    return float(row["bytes"])


def _divergence(row: dict[str, Any]) -> float:
    return float(row["quality"]["kl_mean"])


def table(rows: Rows) -> str:
    """Return the rows as Markdown."""
    lines = [
        "| | MB | perplexity | KL, mean | KL, 99% | top 1 | top 5 |",
        "|---|---|---|---|---|---|---|",
    ]
    for label, row in rows.items():
        if "error" in row:
            lines.append(f"| {label} | not measured: {row['error']} | | | | | |")
            continue
        loss, mean, p99, *agreement = (row["quality"][name] for name in COLUMNS)
        shares = " | ".join(f"{share:.1%}" for share in agreement)
        size = row["bytes"] / 1e6
        lines.append(f"| {label} | {size:.2f} | {loss:+.2%} | {mean:.5f} | {p99:.4f} | {shares} |")
    return "\n".join(lines) + "\n"


def draw(rows: Rows, path: Path) -> None:
    """Draw size against the rise of perplexity and against KL, our blockwise variants as a line.

    fp16 is left out: twice as large as the rest, and its divergence a hundredth of theirs.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 5), layout="constrained")
    measured = {
        label: row for label, row in rows.items() if "quality" in row and label != "**fp16**"
    }
    panels = {"loss": "rise of perplexity, %", "kl_mean": "KL divergence from fp32, nats (mean)"}
    for place, (name, axis) in enumerate(panels.items()):
        factor = 100 if name == "loss" else 1
        axes = figure.add_subplot(1, 2, place + 1, xlabel="size on disk, MB", ylabel=axis)
        points = {
            label: (row["bytes"] / 1e6, max(row["quality"][name] * factor, 1e-4))
            for label, row in measured.items()
        }
        front = sorted(point for label, point in points.items() if label.startswith(FRONT))
        axes.plot(*zip(*front, strict=True), "o-", label="int8, q4 and mixed")
        for label, point in points.items():
            if not label.startswith(FRONT):
                axes.plot(*point, ".", color="tab:blue" if label.startswith("**") else "gray")
                axes.annotate(
                    label.strip("*"), point, xytext=(4, 2), textcoords="offset points", fontsize=6
                )
        axes.set_yscale("log")
        axes.grid(alpha=0.3)
        axes.legend()
    figure.savefig(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--bytes", type=int, help="of the evaluation text; all by default")
    parser.add_argument("--portable", type=Path, help="the checkpoint's portable folder")
    parser.add_argument("--peers", type=Path, help="rows that benchmarks/peers.py measured")
    parser.add_argument("--table", type=Path, help="write the table into this file, too")
    parser.add_argument("--plot", type=Path, help="draw size against quality into this file")
    arguments = parser.parse_args()
    rows: Rows = {}
    with tempfile.TemporaryDirectory() as scratch:
        bench = Bench(arguments.folder, Path(scratch), arguments.bytes)
        for label, write in bench.rows().items():
            rows[label] = bench.measure(write)
            print(table({label: rows[label]}).splitlines()[-1], flush=True)
    if arguments.portable:
        rows["**int8_static**"] = portable_row(arguments.portable, arguments.bytes)
    if arguments.peers and arguments.peers.exists():
        rows |= json.loads(arguments.peers.read_text("utf-8"))
    print(table(rows))
    worse = above_the_line(rows)
    print(f"mixed above the line from q4 to int8: {', '.join(worse) or 'none'}")
    if arguments.table:
        arguments.table.write_text(table(rows), "utf-8")
    if arguments.plot:
        draw(rows, arguments.plot)


if __name__ == "__main__":
    main()
