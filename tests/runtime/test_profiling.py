"""`inspect --profile`: every node is counted, in the phase in which it ran."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from transformers import GPT2LMHeadModel

import pocketgpt
from pocketgpt import OperatorTime, OptionError, Phase, PocketGPTError
from pocketgpt.measure import profile

from ..conftest import Cli


@pytest.mark.parametrize("variant", ["fp32", "int8"])
def test_every_node_is_counted(
    tiny_folder: Path, variant: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """2 layers, a context of 96: a prompt of 64 tokens in chunks of 20, and 32 steps."""
    monkeypatch.setattr("pocketgpt.engine.decoder.PREFILL_CHUNK", 20)
    monkeypatch.chdir(tmp_path)
    found = pocketgpt.profile(tiny_folder, variant)
    assert found.variant == variant
    for phase, tokens, runs in ((found.prefill, 64, 4), (found.decode, 32, 32)):
        calls = {one.operator: one.calls for one in phase.operators}
        assert phase.tokens == tokens
        assert calls["GroupQueryAttention"] == 2 * runs
        assert calls["LayerNormalization"] == 5 * runs
        assert ("MatMulNBits" in calls) == (variant == "int8")
        times = [one.seconds for one in phase.operators]
        assert times == sorted(times, reverse=True)
        assert 0 < sum(times) <= phase.seconds
    assert list(tmp_path.iterdir()) == []  # ONNX Runtime writes into the working directory


def test_a_phase_by_hand() -> None:
    def node(operator: str, at: int, dur: int) -> dict[str, Any]:
        return {"cat": "Node", "ts": at, "dur": dur, "args": {"op_name": operator}}

    runs = [{"cat": "Session", "ts": 100, "dur": 50}, {"cat": "Session", "ts": 200, "dur": 50}]
    before, after = node("MatMul", 90, 5), node("MatMul", 150, 5)
    inside = [node("MatMul", 100, 10), node("Add", 120, 15), node("MatMul", 249, 1)]
    nameless = {"cat": "Node", "ts": 130, "dur": 5, "args": {}}
    found = profile._phase([before, *inside, after, nameless, *runs], runs, 7)
    expected = (OperatorTime("Add", 1, 15e-6), OperatorTime("MatMul", 2, 11e-6))
    assert found == Phase(7, 100e-6, expected)


def test_the_command_line(cli: Cli, tiny_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    steps = Phase(4, 8e-3, (OperatorTime("MatMul", 12, 6e-3), OperatorTime("Add", 4, 1e-3)))
    found = pocketgpt.Profile("q4", Phase(64, 5e-3, (OperatorTime("MatMul", 3, 4e-3),)), steps)
    asked: list[object] = []

    def profile(folder: Path, *arguments: object, **keywords: object) -> pocketgpt.Profile:
        asked.extend((folder, *arguments, keywords))
        return found

    monkeypatch.setattr("pocketgpt.cli.inspect.measure", profile)
    flags = ["--profile", "--variant", "q4", "--threads", "1"]
    code, text, _ = cli("inspect", tiny_folder, *flags)
    assert code == 0
    assert asked == [tiny_folder, "q4", {"provider": "auto", "threads": 1}]
    lines = [" ".join(line.split()) for line in text.splitlines()]
    for line in (
        "q4: a prompt of 64 tokens, 5.00 ms",
        "MatMul 3 4.000 80.0%",
        "between them 1.000 20.0%",
        "q4: one of 4 steps, 2.00 ms",
        "MatMul 3 1.500 75.0%",
        "Add 1 0.250 12.5%",
    ):
        assert line in lines
    _, text, _ = cli("inspect", tiny_folder, "--profile", "--json")
    assert json.loads(text) == json.loads(json.dumps(dataclasses.asdict(found)))
    code, _, errors = cli("inspect", tiny_folder, "--variant", "q4")
    assert (code, errors) == (2, "error: --variant, --provider and --threads need --profile\n")


@pytest.mark.parametrize("n_positions", [1, 2, 3])
def test_contexts_of_next_to_no_tokens(
    make_gpt2: Callable[..., GPT2LMHeadModel],
    tiny_checkpoint: Path,
    tmp_path: Path,
    n_positions: int,
) -> None:
    """Neither a prompt nor a step of no tokens is measured, nor divided by."""
    from pocketgpt_export import export

    checkpoint, folder = tmp_path / "checkpoint", tmp_path / "folder"
    shutil.copytree(tiny_checkpoint, checkpoint)
    make_gpt2(n_positions=n_positions).save_pretrained(checkpoint)
    export(checkpoint, folder)
    if n_positions == 1:
        with pytest.raises(OptionError, match="context of 1 token has no room"):
            pocketgpt.profile(folder)
    else:
        assert pocketgpt.profile(folder).decode.tokens == 1
    if n_positions < 3:
        with pytest.raises(PocketGPTError, match="context below 3 tokens has no room"):
            pocketgpt.bench(folder)
    else:
        (speed,) = pocketgpt.bench(folder).variants
        assert speed.decode_tokens_per_second[1] > 0
