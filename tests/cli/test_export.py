"""`pocketgpt export`, `quantize` and `inspect` on the screen and as JSON."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

import pocketgpt
from pocketgpt_quantize.recipes.registry import RECIPES

from ..conftest import Cli


def manifest_of(folder: Path) -> dict[str, object]:
    fields: dict[str, object] = json.loads((folder / "pocketgpt.json").read_text("utf-8"))
    return fields


def last_line(text: str) -> str:
    return [line for line in text.splitlines() if line.strip()][-1]


def test_export_then_quantize(cli: Cli, tiny_checkpoint: Path, tmp_path: Path) -> None:
    """The main job, from the command line alone."""
    folder = tmp_path / "model"
    done = cli("export", tiny_checkpoint, folder)
    assert done.returncode == 0
    assert "fp32" in done.stdout.replace("\n", "")
    assert "equal to PyTorch" in done.stdout
    for check in ("one_shot", "cached", "chunked", "ragged_batch", "eos_prompt", "context_end"):
        assert f"logits {check}" in done.stdout
    assert "tracing the graph" in done.stderr
    assert pocketgpt.load(folder, verify=True).variant == "fp32"

    done = cli("quantize", folder, "int8", "q4", "--accept-loss")  # untrained: any loss is noise
    assert done.returncode == 0
    for word in ("fp32", "int8", "q4", "perplexity", "change"):
        assert word in done.stdout
    for name in ("int8", "q4"):
        quality = pocketgpt.load(folder, name, verify=True).manifest.variants[name].quality
        assert f"{quality['perplexity']:.3f}" in done.stdout
        assert f"{quality['loss']:+.2%}" in done.stdout
    assert "quantizing to int8" in done.stderr
    assert "measuring int8" in done.stderr


def test_quantize_json_is_the_reports(cli: Cli, tiny_copy: Path) -> None:
    done = cli("quantize", tiny_copy, "q4", "--json", "--accept-loss")
    assert done.returncode == 0
    (report,) = json.loads(done.stdout)
    assert (report["name"], report["installed"]) == ("q4", True)
    manifest = json.loads((tiny_copy / "pocketgpt.json").read_text("utf-8"))
    assert report["variant"] == manifest["variants"]["q4"]


def test_inspect(cli: Cli, tiny_folder: Path) -> None:
    done = cli("inspect", tiny_folder)
    assert (done.returncode, done.stderr) == (0, "")
    assert "2 layers of width 128, 2 heads of 64, context 96, vocabulary 400" in done.stdout
    done = cli("inspect", tiny_folder, "--json")
    assert json.loads(done.stdout) == {**manifest_of(tiny_folder), "installing": None}


def test_export_over_a_folder_exits_with_2(
    cli: Cli, tiny_checkpoint: Path, tiny_copy: Path
) -> None:
    before = manifest_of(tiny_copy)
    done = cli("export", tiny_checkpoint, tiny_copy)
    assert done.returncode == 2
    assert last_line(done.stderr).startswith(f"error: {tiny_copy} holds a model already; --overw")
    assert manifest_of(tiny_copy) == before


def test_quantize_unknown_variant(cli: Cli, tiny_copy: Path) -> None:
    done = cli("quantize", tiny_copy, "q3")
    assert done.returncode == 2
    assert last_line(done.stderr) == (
        "error: no variant is called 'q3'; there are int8, q4, mixed, q8, fp16, q4f16, int8_static"
    )


def test_quantize_without_a_text(cli: Cli, tiny_copy: Path) -> None:
    (tiny_copy / "evaluation.txt").unlink()
    done = cli("quantize", tiny_copy, "int8")
    assert done.returncode == 1
    assert "give a text with --eval-text FILE" in last_line(done.stderr)


@pytest.mark.parametrize("verb", ["quantize", "inspect"])
def test_no_folder_exits_with_1(cli: Cli, tmp_path: Path, verb: str) -> None:
    done = cli(verb, tmp_path / "none", *(["int8"] if verb == "quantize" else []))
    assert done.returncode == 1
    assert last_line(done.stderr).startswith(f"error: {tmp_path / 'none'} is not a folder")


def test_version(cli: Cli) -> None:
    done = cli("--version")
    assert (done.returncode, done.stdout) == (0, f"pocketgpt {pocketgpt.__version__}\n")


@pytest.mark.parametrize("verb", ["export", "quantize", "generate", "inspect"])
def test_help(cli: Cli, verb: str) -> None:
    done = cli(verb, "--help")
    assert done.returncode == 0
    assert f" {verb} [OPTIONS]" in done.stdout


def test_quantize_s_help_names_every_variant(cli: Cli) -> None:
    words = set(re.findall(r"\w+", cli("quantize", "--help").stdout))
    assert set(RECIPES) <= words


@pytest.mark.parametrize(
    ("verb", "module", "extra"),
    [
        (["export", "a", "b"], "torch", "export"),
        (["quantize", "a", "int8"], "onnx_ir", "quantize"),
        (["generate", "a"], "typer", "cli"),
        (["generate", "a"], "rich", "cli"),
    ],
)
def test_a_missing_extra_says_what_to_install(verb: list[str], module: str, extra: str) -> None:
    """In a process where `module` cannot be imported."""
    code = f"""
import sys
class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == {module!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Missing())
from pocketgpt.cli import main
sys.argv = ["pocketgpt", *{verb!r}]
main()
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stdout == ""
    assert f"pip install 'pocketgpt[{extra}]'" in last_line(done.stderr)
    assert last_line(done.stderr).startswith("error: ")
    assert "Traceback" not in done.stderr
