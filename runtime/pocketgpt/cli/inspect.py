"""`pocketgpt inspect`: what a model folder holds."""

from __future__ import annotations

from ..config import read_config
from ..manifest import read_manifest
from .console import print_json, result_console, variants_table
from .options import Folder, JsonOption


def inspect(folder: Folder, json: JsonOption = False) -> None:
    """Show a model folder: source, shape, graph, variants, sizes, quality."""
    manifest = read_manifest(folder)
    if json:
        print_json(manifest)
        return
    config = read_config(folder)
    lines = {
        "source": manifest.source,
        "made by": manifest.producer,
        "shape": f"{config.n_layer} layers of width {config.n_embd}, {config.n_head} heads of "
        f"{config.head_dim}, context {config.n_positions}, vocabulary {config.vocab_size}",
        "graph": f"{manifest.graph}, opset {manifest.opset}, "
        f"ONNX Runtime {manifest.min_onnxruntime} or newer",
        "proof": ", ".join(f"{check} {worst:.1e}" for check, worst in manifest.proof.items()),
    }
    for name, value in lines.items():
        result_console.print(f"{name + ':':9}{value}", highlight=False, soft_wrap=True)
    result_console.print(variants_table(manifest))
