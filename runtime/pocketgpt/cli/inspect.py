"""`pocketgpt inspect`: what a model folder holds."""

from __future__ import annotations

from ..config import read_config
from ..manifest import Manifest, read_manifest
from .console import print_json, result_console, variants_table
from .options import Folder, JsonOption


def inspect(folder: Folder, json: JsonOption = False) -> None:
    """Show a model folder: source, shape, graph, variants, sizes, hashes, quality."""
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
        "weights": "not counted" if manifest.parameters is None else f"{manifest.parameters:,}",
        "graph": f"{manifest.graph}, opset {manifest.opset}, "
        f"ONNX Runtime {manifest.min_onnxruntime} or newer",
        "proof": ", ".join(f"{check} {worst:.1e}" for check, worst in manifest.proof.items()),
    }
    for name, value in lines.items():
        result_console.print(f"{name + ':':9}{value}", highlight=False, soft_wrap=True)
    result_console.print(variants_table(manifest))
    for variant in manifest.variants.values():
        for file in variant.files:
            line = f"{file.sha256}  {file.bytes:>13,}  {file.path}"
            result_console.print(line, highlight=False, soft_wrap=True)


def _source(manifest: Manifest) -> str:
    parts = [
        manifest.source,
        f"revision {manifest.revision}" if manifest.revision else "",
        f"merged into {manifest.base}" if manifest.base else "",
        f"tokenizer of {manifest.tokenizer}" if manifest.tokenizer else "",
    ]
    return ", ".join(part for part in parts if part)
