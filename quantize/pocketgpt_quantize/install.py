"""Putting new variants into a folder, which holds at any moment the old ones or the new, whole.

A variant is two files or three, its graphs and its weights, and their names are fixed: renames, and
between them a mixture. So the folder `onnx` is exchanged, in one step, with one in which the new
files are, and the others as hard links to what they were. The manifest is a third file: before the
exchange it gets what it will say afterwards, beside what it says (`Manifest.installing`), and who
reads it tells by the graphs' hashes which holds. A kill leaves nothing else to mend.

Where names cannot be exchanged or files not be linked (Windows, FAT, a mounted `onnx`), a variant
that is replaced leaves the manifest first: a kill then leaves it out, and never a mixture in.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from pocketgpt.folder.atomic import exchange, locked, write_text
from pocketgpt.folder.file_record import FileRecord
from pocketgpt.folder.manifest import (
    Manifest,
    Variant,
    read_manifest,
    recorded_states,
    write_manifest,
)
from pocketgpt.folder.neighbours import NEIGHBOURS, changed, listed, neighbours_of

ONNX = "onnx"


def install(
    staging: Path, folder: Path, fp32: Variant, variants: Mapping[str, Variant], text: str
) -> None:
    """Move variants from `staging` into `folder`, on the same file system, and list them.

    Args:
        staging: a folder with their files, by the names they will have; used up.
        folder: the model folder.
        fp32: its new entry, with figures of the same text as the variants'.
        variants: their entries.
        text: the SHA-256 of the text that the figures are of.

    Raises:
        OSError: the folder cannot be written; what it lists is whole.
    """
    with locked(folder, wait=True):  # another installation builds on what this one leaves
        now, states = read_manifest(folder), recorded_states(folder)
        after = replace(
            now, variants={**now.variants, "fp32": fp32, **variants}, evaluation_sha256=text
        )
        neighbours = neighbours_of(folder, after, states)
        renewed = changed(folder, neighbours)
        others = _settled(now, neighbours, renewed)
        after = replace(after, companions=others)
        old = {name: variant.all_files for name, variant in now.variants.items()}
        replaced = {n for n, v in variants.items() if n in old and old[n] != v.all_files}
        cache = now.variants["fp32"].int8_cache  # of fp32 the one thing that is made anew
        new_cache = fp32.int8_cache if fp32.int8_cache != cache else None
        graphs = [new_cache.graph] if new_cache else []
        _drop_others(staging, [*graphs, *(r for v in variants.values() for r in v.all_files)])
        at_once = bool(replaced or (cache and new_cache)) and _prepare_exchange(staging, folder)
        kept = {n: v for n, v in now.variants.items() if at_once or n not in replaced}
        if new_cache and not at_once:
            kept["fp32"] = replace(now.variants["fp32"], int8_cache=None)
        try:
            write_manifest(folder, replace(now, variants=kept, companions=others, installing=after))
            if not (at_once and exchange(staging / ONNX, folder / ONNX)):
                _move(staging, folder, graphs, variants.values())
            for name, content in renewed.items():
                write_text(folder / name, content)
        except BaseException:
            with suppress(OSError):
                write_manifest(folder, read_manifest(folder))
            raise
        write_manifest(folder, listed(after, neighbours) if now.companions else after)


def _settled(
    now: Manifest, neighbours: Mapping[str, str], renewed: Mapping[str, str]
) -> tuple[FileRecord, ...]:
    """Return the records of files that stay as they are, whatever happens until all is done.

    Not those that are written anew, which have one hash or another until then, nor a file that was
    ours and is its editor's now.
    """
    return tuple(
        record
        for record in now.companions
        if record.path not in renewed
        and (record.path in neighbours or record.path not in NEIGHBOURS)
    )


def _drop_others(staging: Path, records: Iterable[FileRecord]) -> None:
    """Remove what is not to be installed, such as a refused variant: all that is there moves."""
    listed = {Path(record.path).name for record in records}
    for path in (staging / ONNX).iterdir():
        if path.name not in listed:
            path.unlink()


def _prepare_exchange(staging: Path, folder: Path) -> bool:
    """Complete the `onnx` of `staging` by links to all of the folder's; return whether it can be.

    And whether names can be exchanged at all, which is tried.
    """
    theirs, ours = folder / ONNX, staging / ONNX
    if theirs.is_symlink() or os.path.ismount(theirs):
        return False
    new = [path.name for path in ours.iterdir()]

    def already_new(directory: str, names: list[str]) -> Iterable[str]:
        return new if Path(directory) == theirs else ()

    trial = staging / "trial"
    trial.mkdir()
    if not exchange(trial, staging / ONNX) or not exchange(trial, staging / ONNX):
        return False
    try:
        shutil.copytree(
            theirs,
            ours,
            symlinks=True,
            ignore=already_new,
            copy_function=os.link,
            dirs_exist_ok=True,
        )
    except OSError:
        return False
    return True


def _move(
    staging: Path, folder: Path, graphs: Iterable[FileRecord], variants: Iterable[Variant]
) -> None:
    """Rename files into place, a variant's graph last: once it is there, so is the variant."""
    for records in (graphs, *(reversed(variant.all_files) for variant in variants)):
        for record in records:
            (staging / record.path).replace(folder / record.path)
