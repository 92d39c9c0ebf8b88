"""Copy one variant of a model folder, with no more than the runtime reads, to ship inside an app.

    python examples/one_variant.py FOLDER TARGET [VARIANT]

The copy is a model folder: `pocketgpt.load(TARGET)` opens it.
"""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

MANIFEST = "pocketgpt.json"
TEXTS = ("evaluation.txt", "calibration.txt")  # what made and measured it


def copy_variant(folder: Path, target: Path, variant: str) -> None:
    """Copy a variant and what all variants share; the target must not be there yet."""
    manifest = json.loads((folder / MANIFEST).read_text("utf-8"))
    if variant not in manifest["variants"]:
        raise SystemExit(f"{folder} has no {variant}: pocketgpt quantize {folder} {variant}")
    kept = manifest["variants"][variant]
    files = [*kept["files"], *([kept["int8_cache"]["graph"]] if kept["int8_cache"] else [])]
    shared = [record for record in manifest["companions"] if record["path"] not in TEXTS]
    manifest |= {"variants": {variant: kept}, "companions": shared}
    kept["adapter_graph"] = None
    for record in (*shared, *files):
        (target / record["path"]).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(folder / record["path"], target / record["path"])
    (target / MANIFEST).write_text(json.dumps(manifest, indent=2), "utf-8")


def main() -> None:
    folder, target, *named = sys.argv[1:]
    copy_variant(Path(folder), Path(target), named[0] if named else "q4")


if __name__ == "__main__":
    main()
