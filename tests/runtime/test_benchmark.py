"""`bench`: what it counts, that each variant is measured by itself, and what is refused."""

from __future__ import annotations

import dataclasses
import json
import sys
import time
from pathlib import Path

import pytest

import pocketgpt
from pocketgpt import Benchmark, ModelFolderError, OptionError, PocketGPTError
from pocketgpt.measure import bench_worker as worker
from pocketgpt.measure import machine

from ..conftest import Cli


@pytest.fixture(scope="module")
def measured(tiny_folder: Path) -> Benchmark:
    """Two variants, in processes of their own."""
    return pocketgpt.bench(tiny_folder, ["fp32", "q4"], threads=1)


def test_every_figure_is_there(measured: Benchmark) -> None:
    assert [speed.variant for speed in measured.variants] == ["fp32", "q4"]
    assert (measured.threads, measured.provider) == (1, "CPUExecutionProvider")
    for speed in measured.variants:
        assert list(speed.first_token_seconds) == [32, 95]  # the context of 96 holds no 512
        assert list(speed.decode_tokens_per_second) == [1, 8]
        figures = [*speed.first_token_seconds.values(), *speed.decode_tokens_per_second.values()]
        assert min(figures) > 0
        assert speed.load_seconds > 0
        read = speed.step_bytes * speed.decode_tokens_per_second[1]
        assert speed.bandwidth_share == pytest.approx(read / measured.bandwidth)


def test_a_step_reads_weights_and_cache(tiny: pocketgpt.Model, measured: Benchmark) -> None:
    """Prompts of 32 tokens and half of 64 new ones; 2 layers, keys and values, 128 floats each."""
    weights = tiny.manifest.variant("fp32").bytes
    assert measured.variants[0].step_bytes == weights + 64 * 2 * 2 * 128 * 4


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_memory_is_the_variants_own(measured: Benchmark) -> None:
    """Not this process's, which has loaded PyTorch."""
    own = machine.peak_memory()
    assert own is not None
    for speed in measured.variants:
        assert speed.peak_memory_bytes is not None
        assert 20e6 < speed.peak_memory_bytes < own / 2


def test_texts_never_end_early(tiny: pocketgpt.Model) -> None:
    rows = worker._run(tiny, worker._rows(tiny, 3, 20, 76))
    assert [len(row.token_ids) for row in rows] == [76] * 3
    assert len({tuple(row.prompt_ids) for row in rows}) == 3


def test_bandwidth_is_bytes_over_the_fastest_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    """Passes of 3, 1, 2, ... seconds over 4 MB."""
    clock = iter([0, 3, 10, 11, 20, 22, *range(30, 100)])
    monkeypatch.setattr(time, "perf_counter", lambda: next(clock))
    assert machine.read_bandwidth(2, 4_000_000) == 4_000_000


def test_what_cannot_be_measured_is_refused(tiny_copy: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelFolderError, match="no variant 'q8'"):
        pocketgpt.bench(tiny_copy, ["q8"])
    with pytest.raises(ModelFolderError, match="is not a folder"):
        pocketgpt.bench(tmp_path / "none")
    with pytest.raises(OptionError, match="threads should be"):
        pocketgpt.bench(tiny_copy, threads=0)
    (tiny_copy / "onnx" / "model.onnx_data").unlink()
    with pytest.raises(PocketGPTError, match=r"fp32 could not be measured: .* is missing"):
        pocketgpt.bench(tiny_copy, ["fp32"])


def test_a_process_that_dies_is_an_error(
    tiny_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(PocketGPTError, match="its process ended with exit code 1"):
        pocketgpt.bench(tiny_folder, ["fp32"])


def test_the_command_line(
    measured: Benchmark,
    tiny_folder: Path,
    tmp_path: Path,
    cli: Cli,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("pocketgpt.cli.bench.measure", lambda *_, **__: measured)
    code, text, _ = cli("bench", tiny_folder, "--json")
    assert code == 0
    assert json.loads(text) == json.loads(json.dumps(dataclasses.asdict(measured)))
    plot = tmp_path / "speed.svg"
    code, text, _ = cli("bench", tiny_folder, "--plot", plot)
    assert code == 0
    assert all(len(line) <= 80 for line in text.splitlines()[:-1])
    for speed in measured.variants:
        (row,) = (line for line in text.splitlines() if line.split()[:1] == [speed.variant])
        assert f"{speed.decode_tokens_per_second[8]:.0f}" in row.split()
    assert plot.read_text("utf-8").count("<svg") == 1
    code, _, errors = cli("bench", tiny_folder, "--plot", tmp_path / "speed.doc")
    assert code == 2
    assert "no ending of a picture format" in errors


def test_guessing_ahead_is_measured_where_it_is_asked_for(
    measured: Benchmark, tiny_folder: Path, cli: Cli
) -> None:
    assert {one.speculative_tokens_per_second for one in measured.variants} == {None}
    words = ("bench", tiny_folder, "--variant", "fp32", "--threads", 1)
    code, text, _ = cli(*words, "--prompt-lookup-num-tokens", 5)
    assert code == 0
    assert text.splitlines()[1].split()[-2:] == ["ahead", "came"]
    found = pocketgpt.bench(tiny_folder, ["fp32"], threads=1, assistant=tiny_folder)
    (speed,) = found.variants
    assert speed.speculative_tokens_per_second is not None
    assert speed.speculative_tokens_per_second > 0
    assert speed.accepted_share is None or 0 <= speed.accepted_share <= 1
    with pytest.raises(OptionError, match="prompt_lookup_num_tokens"):
        pocketgpt.bench(tiny_folder, prompt_lookup_num_tokens=0)
