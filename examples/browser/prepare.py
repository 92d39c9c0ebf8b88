"""Put the page, a variant of a model folder and what npm brought into a folder for any web server.

    python examples/browser/prepare.py FOLDER SITE [--variant q4] [--modules node_modules]

Needs onnx (pip install 'pocketgpt[quantize]').
"""

from __future__ import annotations

import argparse
import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

from unpack import unpack_at_load

HERE = Path(__file__).resolve().parent
PAGE = (
    "index.html",
    "style.css",
    "app.js",
    "ink.js",
    "worker.js",
    "runtime.js",
    "text.js",
    "download.js",
)
MODEL = ("config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json")
VENDOR = {
    "ort-wasm-simd-threaded.mjs": "onnxruntime-web/dist/ort-wasm-simd-threaded.mjs",
    "ort-wasm-simd-threaded.wasm": "onnxruntime-web/dist/ort-wasm-simd-threaded.wasm",
    "tokenizers.min.mjs": "@huggingface/tokenizers/dist/tokenizers.min.mjs",
    "tokenizers-LICENSE": "@huggingface/tokenizers/LICENSE",
    "newsreader.woff2": "@fontsource-variable/newsreader/files/newsreader-latin-wght-normal.woff2",
    "newsreader-LICENSE": "@fontsource-variable/newsreader/LICENSE",
    "instrument-sans.woff2": (
        "@fontsource-variable/instrument-sans/files/instrument-sans-latin-wght-normal.woff2"
    ),
    "instrument-sans-LICENSE": "@fontsource-variable/instrument-sans/LICENSE",
}


def copy_model(folder: Path, target: Path, variant: str) -> None:
    """Copy what one variant needs; its products unpack their weights once (unpack.py)."""
    manifest = json.loads((folder / "pocketgpt.json").read_text("utf-8"))
    if variant not in manifest["variants"]:
        raise SystemExit(f"{folder} has no {variant}: pocketgpt quantize {folder} {variant}")
    graph, weights = (record["path"] for record in manifest["variants"][variant]["files"])
    (target / graph).parent.mkdir(parents=True)
    for name in (*MODEL, weights):
        if (folder / name).is_file():
            shutil.copyfile(folder / name, target / name)
    unpack_at_load(folder / graph, target / graph)
    kept = {**manifest["variants"][variant], "int8_cache": None, "adapter_graph": None}
    kept["files"] = [record(target, graph), record(target, weights)]
    kept["fingerprint"] = None  # of the graph as it was
    companions = [record(target, name) for name in MODEL if (target / name).is_file()]
    manifest |= {"variants": {variant: kept}, "companions": companions}
    (target / "pocketgpt.json").write_text(json.dumps(manifest, indent=2), "utf-8")


def record(folder: Path, path: str) -> dict[str, Any]:
    """Return what a manifest says of a file."""
    content = (folder / path).read_bytes()
    return {"path": path, "bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}


def copy_vendor(modules: Path, target: Path) -> None:
    """Copy what the page needs of npm's packages, and say how large the runtime is."""
    target.mkdir()
    for name, source in VENDOR.items():
        if not (modules / source).is_file():
            raise SystemExit(f"{modules / source} is missing: npm install --prefix {HERE}")
        shutil.copyfile(modules / source, target / name)
    sizes = {path.name: path.stat().st_size for path in target.glob("*.wasm")}
    (target / "sizes.json").write_text(json.dumps(sizes), "utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("site", type=Path)
    parser.add_argument("--variant", default="q4")
    parser.add_argument("--modules", type=Path, default=HERE / "node_modules")
    given = parser.parse_args()
    made = given.site.with_name(given.site.name + ".part")
    shutil.rmtree(made, ignore_errors=True)
    made.mkdir(parents=True)
    for name in PAGE:
        shutil.copyfile(HERE / name, made / name)
    copy_vendor(given.modules, made / "vendor")
    copy_model(given.folder, made / "model", given.variant)
    shutil.rmtree(given.site, ignore_errors=True)
    made.rename(given.site)


if __name__ == "__main__":
    main()
