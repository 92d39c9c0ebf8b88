"""`pocketgpt inspect`: what a model folder holds, and where its time goes."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.box import SIMPLE
from rich.table import Table

from ..errors import OptionError
from ..folder.config import ModelConfig, read_config
from ..folder.hub import located, no_variant
from ..folder.manifest import Manifest, read_manifest
from ..measure.profile import Phase, Profile
from ..measure.profile import profile as measure
from .console import print_json, result_console, variants_table
from .options import Folder, JsonOption, ProviderOption, ThreadsOption, VariantOption


def inspect(
    folder: Folder,
    profile: Annotated[
        bool,
        typer.Option(
            "--profile",
            help="Show instead ONNX Runtime's time by operator, for a prompt of 512 tokens and for "
            "32 steps, or as many as the context holds.",
        ),
    ] = False,
    variant: VariantOption = None,
    provider: ProviderOption = "auto",
    threads: ThreadsOption = None,
    json: JsonOption = False,
) -> None:
    """Show a model folder: source, shape, graph, variants, sizes, hashes, quality.

    --variant, --provider and --threads are for --profile.
    """
    if profile:
        found = measure(folder, variant, provider=provider, threads=threads)
        print_json(found) if json else _show_profile(found)
        return
    if variant is not None or provider != "auto" or threads is not None:
        raise OptionError("--variant, --provider and --threads need --profile")
    folder = located(folder, no_variant)
    manifest = read_manifest(folder)
    if json:
        print_json(manifest)
        return
    config = read_config(folder)
    lines = {
        "source": _source(manifest),
        "made by": manifest.producer,
        "shape": f"{config.n_layer} layers of width {config.n_embd}, {config.n_head} heads of "
        f"{config.head_dim}, context {config.n_positions}, vocabulary {config.vocab_size}",
        "task": _task(config),
        "weights": "not counted" if manifest.parameters is None else f"{manifest.parameters:,}",
        "graph": f"{manifest.graph}, opset {manifest.opset}, "
        f"ONNX Runtime {manifest.min_onnxruntime} or newer",
        "proof": ", ".join(f"{check} {worst:.1e}" for check, worst in manifest.proof.items()),
    }
    shown = [*lines.items(), *(("note", remark) for remark in manifest.remarks)]
    for name, value in shown:
        line = f"{name + ':':9}{value}"
        result_console.print(line, highlight=False, markup=False, soft_wrap=True)
    result_console.print(variants_table(manifest))
    for entry in manifest.variants.values():
        for file in entry.all_files:
            line = f"{file.sha256}  {file.bytes:>13,}  {file.path}"
            result_console.print(line, highlight=False, soft_wrap=True)


def _show_profile(found: Profile) -> None:
    for heading, phase in (
        (f"{found.variant}: a prompt of {found.prefill.tokens} tokens", found.prefill),
        (f"{found.variant}: one of {found.decode.tokens} steps", found.decode),
    ):
        steps = 1 if phase is found.prefill else phase.tokens
        result_console.print(f"{heading}, {phase.seconds / steps * 1e3:.2f} ms", highlight=False)
        result_console.print(_operators_table(phase, steps))


def _operators_table(phase: Phase, steps: int) -> Table:
    """Return an operator a row; the last row is what ONNX Runtime did between the nodes."""
    table = Table(box=SIMPLE, padding=(0, 1, 0, 0), pad_edge=False)
    table.add_column("operator", no_wrap=True)
    for heading in ("calls", "ms", "share"):
        table.add_column(heading, justify="right")
    inside = sum(one.seconds for one in phase.operators)
    rows = [(one.operator, f"{one.calls // steps}", one.seconds) for one in phase.operators]
    for name, calls, seconds in [*rows, ("between them", "", phase.seconds - inside)]:
        share = f"{seconds / phase.seconds:.1%}" if phase.seconds else ""
        table.add_row(name, calls, f"{seconds / steps * 1e3:.3f}", share)
    return table


def _task(config: ModelConfig) -> str:
    """Return what the model is for; of a classifier its labels, too."""
    if config.labels is None:
        return config.task
    names = ", ".join(config.labels.names)
    kind = (config.labels.problem_type or "").removesuffix("_classification").replace("_", "-")
    parts = [config.task, kind, f"labels {names}"]
    return ", ".join(part for part in parts if part)


def _source(manifest: Manifest) -> str:
    parts = [
        manifest.source,
        f"revision {manifest.revision}" if manifest.revision else "",
        f"merged into {manifest.base}" if manifest.base else "",
        f"tokenizer of {manifest.tokenizer}" if manifest.tokenizer else "",
    ]
    return ", ".join(part for part in parts if part)
