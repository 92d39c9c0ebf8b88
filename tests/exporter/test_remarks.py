"""What an export says beside its result: in the manifest, and on standard error."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pocketgpt
from pocketgpt.folder.manifest import read_manifest
from pocketgpt_export import export

from ..conftest import Cli
from .test_foreign_configs import edit_config


def test_nothing_to_say(make_checkpoint: Callable[..., Path], tmp_path: Path, cli: Cli) -> None:
    done = cli("export", make_checkpoint(n_layer=1), tmp_path / "model")
    assert done.returncode == 0
    assert "note:" not in done.stderr
    assert read_manifest(tmp_path / "model").remarks == ()


def test_generation_config_and_ids(
    make_checkpoint: Callable[..., Path], tmp_path: Path, cli: Cli
) -> None:
    folder = make_checkpoint(n_layer=1)
    settings = {"eos_token_id": 50256, "guidance_scale": 1.5, "temperature": 0.0}
    (folder / "generation_config.json").write_text(
        json.dumps({**settings, "do_sample": True}), "utf-8"
    )
    done = cli("export", folder, tmp_path / "model", "--json")
    assert done.returncode == 0
    remarks = read_manifest(tmp_path / "model").remarks
    assert json.loads(done.stdout)["remarks"] == list(remarks)
    assert [line for line in done.stderr.splitlines() if line.startswith("note: ")] == [
        f"note: {remark}" for remark in remarks
    ]
    shown = cli("inspect", tmp_path / "model").stdout
    assert all(remark in shown for remark in remarks)
    for name in ("eos_token_id (50256)", "guidance_scale (1.5)", "temperature"):
        assert sum(name in remark for remark in remarks) == 1


def test_ids_of_a_configuration(make_checkpoint: Callable[..., Path], tmp_path: Path) -> None:
    """GPT-2's left in a smaller vocabulary, and no generation_config.json."""
    folder = make_checkpoint(n_layer=1)
    (folder / "generation_config.json").unlink()
    edit_config(folder, bos_token_id=50256, eos_token_id=[50256, 3], pad_token_id=-1)
    remarks = export(folder, tmp_path / "model").remarks
    assert len(remarks) == 2
    assert "bos_token_id (50256)" in " ".join(remarks)
    assert "eos_token_id (a list of 2)" in " ".join(remarks)


def test_values_that_are_no_ids(make_checkpoint: Callable[..., Path], tmp_path: Path) -> None:
    """What is too large to be an id is passed over; NaN is not called one, and [] is none."""
    folder = make_checkpoint(n_layer=1)
    settings = {"eos_token_id": 10**30, "temperature": float("nan"), "suppress_tokens": []}
    (folder / "generation_config.json").write_text(json.dumps(settings), "utf-8")
    (remark,) = export(folder, tmp_path / "model").remarks
    assert "eos_token_id (a number of more than 64 bits) has token ids outside" in remark
    assert len(pocketgpt.load(tmp_path / "model").generate("the", max_new_tokens=2).token_ids) == 2
