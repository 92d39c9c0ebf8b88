"""What apps are shipped with: one variant of a folder, and the program around it."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

import pytest

import pocketgpt

from ..conftest import ROOT, contents
from .conftest import Run


def test_one_variant_is_a_folder_of_its_own(run: Run, tiny_folder: Path, tmp_path: Path) -> None:
    run("one_variant.py", tiny_folder, tmp_path / "copy", "q4")
    copied = contents(tmp_path / "copy")
    assert not any(name.endswith(".txt") for name in copied)
    assert {Path(name).name for name in copied if name.startswith("onnx/")} <= {
        "model_q4.onnx",
        "model_q4.onnx_data",
        "model_q4_int8_cache.onnx",
    }
    small = pocketgpt.load(tmp_path / "copy", verify=True)
    whole = pocketgpt.load(tiny_folder, "q4")
    assert (small.variant, small.kv_cache) == (whole.variant, whole.kv_cache)
    texts = [model.generate("The ship", max_new_tokens=8).token_ids for model in (small, whole)]
    assert texts[0] == texts[1]


def test_a_variant_that_is_not_there_is_said(run: Run, tiny_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="has no fp16: pocketgpt quantize"):
        run("one_variant.py", tiny_folder, tmp_path / "copy", "fp16")
    assert not (tmp_path / "copy").exists()


def test_start_up_measures_a_program(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    wait = "import time; print('a', flush=True); time.sleep(0.2)"
    run("start_up.py", "--rounds", 2, sys.executable, "-c", wait)
    words = capsys.readouterr().out.split()
    first, end, memory = float(words[3]), float(words[7]), float(words[11])
    assert 0 < first < end
    assert end > 0.2
    assert 1 < memory < 500


def test_the_desktop_program_tells_from_the_folder_beside_it(
    tiny_folder: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As PyInstaller lays it out, without PyInstaller."""
    app = tmp_path / "app.py"
    app.write_text((ROOT / "examples" / "desktop" / "app.py").read_text("utf-8"), "utf-8")
    monkeypatch.setattr(sys, "argv", ["tales", "The ship", "--greedy", "--tokens", "5"])
    with pytest.raises(SystemExit, match=r"tales: .*model"):
        runpy.run_path(str(app), run_name="__main__")
    (tmp_path / "model").symlink_to(tiny_folder)
    runpy.run_path(str(app), run_name="__main__")
    expected = pocketgpt.load(tiny_folder).generate("The ship", max_new_tokens=5).text
    assert capsys.readouterr().out.endswith(f"The ship{expected}\n")
