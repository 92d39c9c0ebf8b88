"""Whether a wrong provider is refused: the fingerprint, its checks, and what is remembered.

AzureExecutionProvider is in every onnxruntime and takes no node, so all that is asked of it the CPU
answers: it stands for a device that is right, and with another fingerprint for one that is wrong.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnxruntime as ort
import pytest

import pocketgpt
from pocketgpt import ModelFolderError, OptionError, ProviderError, ProviderWarning
from pocketgpt.engine import graph as graph_module
from pocketgpt.engine import trust, verdicts
from pocketgpt.engine.decoder import Decoder
from pocketgpt.engine.selftest import LENGTHS, ROWS, allowed, differences
from pocketgpt.folder.fingerprint import Answer, Fingerprint
from pocketgpt.folder.manifest import read_manifest
from pocketgpt.folder.onnxruntime_version import is_onnxruntime
from pocketgpt.folder.opening import CACHE_ONNXRUNTIME

from ..conftest import Cli

if TYPE_CHECKING:
    from transformers import GPT2LMHeadModel

DEVICE = "AzureExecutionProvider"
ASSIGNMENT = "get_provider_graph_assignment_info"  # not in ONNX Runtime 1.23
needs_assignment = pytest.mark.skipif(
    not hasattr(ort.InferenceSession, ASSIGNMENT),
    reason="this ONNX Runtime does not tell which nodes a provider took",
)
CHECKS = ["one_shot", "chunked", "ragged", "cached"]


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of the test's own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "pocketgpt" / "selftests"


@pytest.fixture
def device(monkeypatch: pytest.MonkeyPatch) -> str:
    """A provider other than the CPU, which would be refused for computing nothing."""
    monkeypatch.setattr(graph_module, "check_used", lambda *_: None)
    return DEVICE


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """What grows by one with every self-test that really runs."""
    counted: list[object] = []

    def counting(*given: Any, **options: Any) -> dict[str, float]:
        counted.append(given)
        return differences(*given, **options)

    monkeypatch.setattr(trust, "differences", counting)
    return counted


def fingerprint_of(folder: Path, variant: str = "fp32") -> Fingerprint:
    found = read_manifest(folder).variant(variant).fingerprint
    assert found is not None
    return found


def change_fingerprint(folder: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Change fp32's entry in a folder's manifest."""
    path = folder / "pocketgpt.json"
    manifest = json.loads(path.read_text("utf-8"))
    change(manifest["variants"]["fp32"])
    path.write_text(json.dumps(manifest), "utf-8")


def shift_logits(entry: dict[str, Any]) -> None:
    for answer in entry["fingerprint"]["answers"]:
        answer["logits"] = [[logit + 3 for logit in row] for row in answer["logits"]]


def test_fp32_answers_as_pytorch_does(tiny_folder: Path, tiny_reference: GPT2LMHeadModel) -> None:
    import torch

    found = fingerprint_of(tiny_folder)
    assert [len(answer.prompt) for answer in found.answers] == list(LENGTHS)
    rows = []
    for answer in found.answers:
        with torch.inference_mode():
            logits = tiny_reference(torch.tensor([answer.prompt])).logits[0, -ROWS:]
        best = logits.topk(len(answer.logits[0]))
        assert np.allclose(answer.logits, best.values, atol=1e-4)
        assert np.allclose(logits.gather(1, torch.tensor(answer.likeliest)), best.values, atol=1e-4)
        rows.append(logits)
    assert found.deviation == pytest.approx(float(torch.cat(rows).std(correction=0)), rel=1e-3)


@pytest.mark.parametrize("variant", ["fp32", "int8", "q4"])
def test_every_variant_agrees_with_its_own_on_the_cpu(tiny_folder: Path, variant: str) -> None:
    found = pocketgpt.selftest(tiny_folder, variant, provider="cpu")
    assert list(found.differences) == CHECKS
    assert found.failed == ()
    assert (found.variant, found.provider) == (variant, "CPUExecutionProvider")
    if variant == "fp32":
        assert max(found.differences.values()) < 1e-4
        assert found.allowed < 0.1 * fingerprint_of(tiny_folder).deviation


class Wrong(Decoder):
    """A decoder that stands before another; each kind is wrong in a way of its own."""

    def __init__(self, right: Decoder) -> None:
        self._right = right

    def __getattribute__(self, name: str) -> Any:
        own = name.startswith("_") or name in type(self).__dict__
        right = object.__getattribute__(self, "_right") if not own else self
        return object.__getattribute__(right, name)


class WrongFromTheFifth(Wrong):
    """Mixes up what a pass over more than four tokens reads, as a driver's subgroups of 4 do."""

    def _mixed(self, token_ids: Sequence[int]) -> list[int]:
        return [*token_ids[:4], *reversed(token_ids[4:-1]), *token_ids[4:][-1:]]

    def score(self, token_ids: Sequence[int], slot: int = 0) -> Any:
        return self._right.score(self._mixed(token_ids), slot)

    def append(self, token_ids: Sequence[int], slot: int = 0) -> Any:
        return self._right.append(self._mixed(token_ids), slot)

    def feed(self, token_ids: Sequence[int], slot: int = 0) -> None:
        self._right.feed(self._mixed(token_ids), slot)

    def fill(self, prompts: Sequence[Sequence[int]], first: int = 0) -> Any:
        return self._right.fill([self._mixed(prompt) for prompt in prompts], first)


class WrongInSteps(Wrong):
    """Loses the value of the token before."""

    def step(self, token_ids: int | Sequence[int]) -> Any:
        keys, values = self._right.read()
        values[:, :, -1:] = 0
        self._right.write(keys, values)
        return self._right.step(token_ids)


class WrongRows(Wrong):
    """Gives a batch's rows in another order."""

    def fill(self, prompts: Sequence[Sequence[int]], first: int = 0) -> Any:
        return np.roll(self._right.fill(prompts, first), 1, axis=0)


@pytest.mark.parametrize(
    ("wrong", "caught"),
    [
        (WrongFromTheFifth, {"one_shot", "chunked", "ragged"}),
        (WrongInSteps, {"cached", "ragged"}),
        (WrongRows, {"ragged"}),
    ],
)
def test_wrong_kernels_are_caught_where_they_are_wrong(
    tiny_folder: Path, tiny: pocketgpt.Model, wrong: type[Wrong], caught: set[str]
) -> None:
    fingerprint = fingerprint_of(tiny_folder)
    found = differences(lambda slots: wrong(tiny.new_decoder(slots)), fingerprint)
    limit = allowed(fingerprint, None)
    assert {check for check, off in found.items() if off > limit} == caught


def test_numbers_that_are_none_are_wrong(tiny_folder: Path, tiny: pocketgpt.Model) -> None:
    class NoNumbers(Wrong):
        def score(self, token_ids: Sequence[int], slot: int = 0) -> Any:
            return np.full_like(self._right.score(token_ids, slot), np.nan)

    found = differences(lambda n: NoNumbers(tiny.new_decoder(n)), fingerprint_of(tiny_folder))
    assert np.isnan(found["one_shot"])


def test_short_contexts_have_fingerprints(tiny: pocketgpt.Model) -> None:
    from pocketgpt.engine.selftest import prompts_of, take_fingerprint

    for context in (1, 2, 5):
        ids = list(range(context))
        taken = take_fingerprint(tiny.new_decoder, prompts_of(ids, ids))
        assert max(differences(tiny.new_decoder, taken).values()) < 1e-4


def test_a_right_provider_is_tested_once(
    tiny_folder: Path, device: str, runs: list[object], own_cache: Path
) -> None:
    seen: list[tuple[int, int]] = []
    pocketgpt.load(tiny_folder, "fp32", provider=device, progress=lambda _, *n: seen.append(n))
    assert seen == [(done, 4) for done in range(5)]
    pocketgpt.load(tiny_folder, "fp32", provider=device, progress=lambda _, *n: seen.append(n))
    assert (len(runs), len(seen), len([*own_cache.iterdir()])) == (1, 5, 1)
    pocketgpt.load(tiny_folder, "int8", provider=device)
    pocketgpt.load(tiny_folder, "fp32")  # the CPU is believed
    assert len(runs) == 2


def test_a_newer_onnxruntime_another_option_or_a_week_test_again(
    tiny_folder: Path, device: str, runs: list[object], monkeypatch: pytest.MonkeyPatch
) -> None:
    pocketgpt.load(tiny_folder, "fp32", provider=device)
    pocketgpt.load(tiny_folder, "fp32", provider=(device, {"a": 1}))
    monkeypatch.setenv("VK_DRIVER_FILES", "/another/driver.json")
    pocketgpt.load(tiny_folder, "fp32", provider=device)
    monkeypatch.setattr(ort, "__version__", "9.9.9")
    pocketgpt.load(tiny_folder, "fp32", provider=device)
    monkeypatch.setattr(verdicts, "SECONDS_KEPT", 0)
    pocketgpt.load(tiny_folder, "fp32", provider=device)
    assert len(runs) == 5


def test_a_wrong_provider_is_refused_and_remembered(
    tiny_copy: Path, device: str, runs: list[object]
) -> None:
    change_fingerprint(tiny_copy, shift_logits)
    for _ in range(2):
        says = rf"'{device}' computes fp32 wrongly: logits differ by 3 in one_shot, over the 0\."
        with pytest.raises(ProviderError, match=says) as caught:
            pocketgpt.load(tiny_copy, "fp32", provider=device)
        assert "provider='cpu'" in str(caught.value)
        assert "\n" not in str(caught.value)
    assert len(runs) == 1
    assert pocketgpt.load(tiny_copy, "fp32", provider=device, selftest=False).variant == "fp32"
    assert pocketgpt.load(tiny_copy, "fp32").variant == "fp32"
    assert pocketgpt.load(tiny_copy, "int8", provider=device).variant == "int8"


@pytest.mark.parametrize("content", [b"", b"[]", b"{}", b'{"variant": 1}', b"\xff"])
def test_a_cache_that_cannot_be_read_counts_for_nothing(
    tiny_folder: Path, device: str, runs: list[object], own_cache: Path, content: bytes
) -> None:
    pocketgpt.load(tiny_folder, "fp32", provider=device)
    (file,) = own_cache.iterdir()
    file.write_bytes(content)
    pocketgpt.load(tiny_folder, "fp32", provider=device)
    assert len(runs) == 2


def test_a_cache_that_cannot_be_written_tests_every_time(
    tiny_folder: Path, device: str, runs: list[object], tmp_path: Path
) -> None:
    (tmp_path / "cache").write_text("a file where the folder would be")
    for _ in range(2):
        pocketgpt.load(tiny_folder, "fp32", provider=device)
    assert len(runs) == 2


def test_without_a_fingerprint_one_is_told(tiny_copy: Path, device: str) -> None:
    change_fingerprint(tiny_copy, lambda entry: entry.pop("fingerprint"))
    assert pocketgpt.load(tiny_copy, "fp32").variant == "fp32"
    with pytest.warns(ProviderWarning, match=r"no fingerprint of fp32, .*: export the model again"):
        pocketgpt.load(tiny_copy, "fp32", provider=device)
    with pytest.raises(ModelFolderError, match="no fingerprint of fp32"):
        pocketgpt.selftest(tiny_copy, "fp32")


@pytest.mark.parametrize(
    "damage",
    [
        {"answers": []},
        {"deviation": -1},
        {"deviation": "NaN"},
        {"answers": [{"prompt": [], "likeliest": [[1]], "logits": [[0.5]]}]},
        {"answers": [{"prompt": [-1], "likeliest": [[1]], "logits": [[0.5]]}]},
        {"answers": [{"prompt": [1], "likeliest": [[1]], "logits": [[0.5, 1]]}]},
        {"answers": [{"prompt": [1], "likeliest": [[1], [2]], "logits": [[0.5], [1]]}]},
        {"answers": [{"prompt": [1], "likeliest": [[]], "logits": [[]]}]},
        {"answers": [{"prompt": [1], "likeliest": [[1]], "logits": [[None]]}]},
        {"answers": [{"prompt": [1], "likeliest": [[1]]}]},
        {"answers": 3},
    ],
)
def test_a_damaged_fingerprint_damages_the_manifest(
    tiny_copy: Path, damage: dict[str, Any]
) -> None:
    change_fingerprint(tiny_copy, lambda entry: entry["fingerprint"].update(damage))
    with pytest.raises(ModelFolderError, match="is damaged"):
        pocketgpt.load(tiny_copy, "fp32")


def test_another_models_fingerprint_fails(tiny: pocketgpt.Model) -> None:
    other = Fingerprint((Answer((1,), ((tiny.config.vocab_size,),), ((0.5,),)),), 1.0)
    with pytest.raises(pocketgpt.InferenceError, match="another model's"):
        differences(tiny.new_decoder, other)


@needs_assignment
def test_what_falls_to_the_cpu_is_named_and_strict_refuses_it(
    tiny_folder: Path, device: str
) -> None:
    model = pocketgpt.load(tiny_folder, "fp32", provider=device)
    assert model.assignment is not None
    assert model.assignment.nodes == {"CPUExecutionProvider": len(model.assignment.cpu_nodes)}
    assert any(node.startswith("GroupQueryAttention ") for node in model.assignment.cpu_nodes)
    assert pocketgpt.load(tiny_folder, "fp32").assignment is None
    with pytest.raises(ProviderError, match=r"cannot run all of .*: .* 2 GroupQueryAttention"):
        pocketgpt.load(tiny_folder, "fp32", provider=device, strict=True)
    assert pocketgpt.load(tiny_folder, "fp32", strict=True).variant == "fp32"


@needs_assignment
def test_a_provider_that_computes_nothing_is_refused(tiny_folder: Path) -> None:
    with pytest.raises(ProviderError, match=r"leaves the products of .* to the CPU"):
        pocketgpt.load(tiny_folder, "fp32", provider=DEVICE)


@pytest.mark.skipif(not is_onnxruntime(CACHE_ONNXRUNTIME), reason="an 8-bit cache is newer")
def test_eight_bit_caches_stay_on_the_cpu(tiny_folder: Path, device: str) -> None:
    assert pocketgpt.load(tiny_folder, "int8").kv_cache == "int8"
    assert pocketgpt.load(tiny_folder, "int8", provider=device).kv_cache == "float32"
    with pytest.raises(OptionError, match=f"is for the CPU alone, not {device}"):
        pocketgpt.load(tiny_folder, "int8", provider=device, kv_cache="int8")


def test_verify_prints_the_checks(cli: Cli, tiny_copy: Path, device: str) -> None:
    code, text, _ = cli("verify", tiny_copy, "--provider", "cpu", "--variant", "q4")
    assert code == 0
    assert "q4 on CPUExecutionProvider" in text
    for check in CHECKS:
        assert f"logits {check}" in text
    code, text, _ = cli("verify", tiny_copy, "--provider", device, "--variant", "fp32", "--json")
    found = json.loads(text)
    assert (code, list(found["differences"]), found["provider"]) == (0, CHECKS, device)
    assert found["cpu_nodes"] or not hasattr(ort.InferenceSession, ASSIGNMENT)
    change_fingerprint(tiny_copy, shift_logits)
    code, text, errors = cli("verify", tiny_copy, "--provider", "cpu", "--variant", "fp32")
    assert code == 1
    assert text.count("FAILED") == 4
    assert "computes fp32 wrongly" in errors
    code, _, errors = cli("verify", tiny_copy, "--variant", "fp32")
    assert (code, errors) == (2, "error: --variant, --strict and --threads need --provider\n")


def test_the_command_line_refuses_skips_and_warns_in_a_line(
    cli: Cli, tiny_copy: Path, device: str
) -> None:
    ask = ("generate", tiny_copy, "A", "--variant", "fp32", "--provider", device)
    change_fingerprint(tiny_copy, shift_logits)
    code, text, errors = cli(*ask)
    assert (code, text, errors.count("\n")) == (1, "", 1)
    assert cli(*ask, "--no-selftest").returncode == 0
    assert cli(*ask, "--strict").returncode == 1
    change_fingerprint(tiny_copy, lambda entry: entry.pop("fingerprint"))
    with pytest.warns(ProviderWarning) as seen:
        assert cli(*ask).returncode == 0
    line = warnings.formatwarning(str(seen[0].message), ProviderWarning, "x.py", 1)
    assert line.startswith(f"warning: {tiny_copy} has no fingerprint of fp32")
    assert line.count("\n") == 1
