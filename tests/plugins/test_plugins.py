"""Real plugins, whose devices are the CPU: found by themselves, tested, strict, refused when wrong.

`make test-plugins` runs this in an environment that has them, over a folder that it exports first.
"""

from __future__ import annotations

import json
import shutil
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

import pocketgpt
from pocketgpt import ProviderError
from pocketgpt.engine import plugins
from pocketgpt.engine.providers import find_provider

from ..conftest import ROOT

FOLDER = ROOT / "build" / "portable"
MODULES = {"ggml": "onnxruntime_ggml", "openvino": "onnxruntime_ep_openvino"}


def installed(name: str) -> Any:
    there = find_spec(MODULES[name]) is not None
    reason = f"{MODULES[name]} is not installed here: make test-plugins"
    return pytest.param(name, marks=pytest.mark.skipif(not there, reason=reason))


pytestmark = [
    pytest.mark.skipif(
        not (FOLDER / "pocketgpt.json").is_file(), reason=f"no {FOLDER}: make test-plugins"
    ),
    pytest.mark.parametrize("name", [installed(name) for name in MODULES]),
]


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def test_it_is_found_and_says_what_the_cpu_says(name: str) -> None:
    seen: list[object] = []
    model = pocketgpt.load(
        FOLDER, provider=name, strict=True, progress=lambda *given: seen.append(given)
    )
    assert len(seen) == 5
    assert model.assignment is not None
    assert model.assignment.cpu_nodes == ()
    cpu = pocketgpt.load(FOLDER, "fp32")
    for prompt in ("Once upon a time", "The old man"):
        expected = cpu.generate(prompt, max_new_tokens=8)
        assert model.generate(prompt, max_new_tokens=8).token_ids == expected.token_ids
    pocketgpt.load(FOLDER, provider=name, progress=lambda *given: seen.append(given))
    assert len(seen) == 5  # remembered


def test_devices_lists_it(name: str) -> None:
    tested = pocketgpt.selftest(FOLDER, provider=name)
    assert tested.failed == ()
    assert tested.nodes.keys() == {find_provider(name).name}
    found = {one.name: one for one in pocketgpt.devices(FOLDER).providers}[name]
    assert (found.available, found.selftests) == (True, (tested,))
    assert found.devices == (tested.device,)


def test_it_may_be_named_by_its_library(name: str) -> None:
    (plugin,) = (one for one in plugins.installed_plugins() if one.module == MODULES[name])
    found = find_provider((name, {"library": plugin.library()}))
    assert (len(found.devices), found.options) == (1, {})


def test_it_is_refused_when_it_is_wrong(name: str, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(FOLDER, tmp_path / "copy"))
    manifest = json.loads((folder / "pocketgpt.json").read_text("utf-8"))
    for answer in manifest["variants"]["fp32"]["fingerprint"]["answers"]:
        answer["logits"] = [[logit + 1 for logit in row] for row in answer["logits"]]
    (folder / "pocketgpt.json").write_text(json.dumps(manifest), "utf-8")
    with pytest.raises(ProviderError, match=r"computes fp32 wrongly: .* in one_shot"):
        pocketgpt.load(folder, provider=name)
