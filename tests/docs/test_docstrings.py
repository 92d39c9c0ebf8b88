"""The examples in docstrings: every one runs, and gives what it says, where it says something.

`model` is a loaded model; folders have the names that the examples give them, and hold small random
models.
"""

from __future__ import annotations

import doctest
import inspect
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import pocketgpt
import pocketgpt.bulk
import pocketgpt.chat
import pocketgpt_export
import pocketgpt_quantize

from ..conftest import SENTENCES

# By the name of what is documented, why its example is not run here.
NOT_RUN = {
    "map_files": "needs a cluster",
    "push": "needs an account",
    "selftest": "needs an Nvidia GPU",
}
PACKAGES = (pocketgpt, pocketgpt.bulk, pocketgpt.chat, pocketgpt_export, pocketgpt_quantize)
HUB = "openai-community/gpt2"


def documented() -> Iterator[tuple[str, str]]:
    """Yield every public function, class and method with an example: its name, its docstring."""
    for package in (
        pocketgpt,
        pocketgpt.bulk,
        pocketgpt.chat,
        pocketgpt_export,
        pocketgpt_quantize,
    ):
        for name in package.__all__:
            thing = getattr(package, name)
            yield name, inspect.getdoc(thing) or ""
            if inspect.isclass(thing):
                for inner, method in inspect.getmembers(thing, inspect.isroutine):
                    if not inner.startswith("_"):
                        yield f"{name}.{inner}", inspect.getdoc(method) or ""


EXAMPLES = {name: text for name, text in documented() if ">>>" in text}


class WhereItSays(doctest.OutputChecker):
    """An example that says nothing of what it gives has to run, no more."""

    def check_output(self, want: str, got: str, optionflags: int) -> bool:
        return not want or super().check_output(want, got, optionflags)


@pytest.fixture(scope="module")
def place(
    tiny_checkpoint: Path,
    tiny_folder: Path,
    classifier_folder: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    """A folder with everything that the examples name."""
    place = tmp_path_factory.mktemp("examples")
    shutil.copytree(tiny_folder, place / "models" / "gpt2")
    shutil.copytree(classifier_folder, place / "models" / "sentiment")
    shutil.copytree(tiny_checkpoint, place / HUB)
    pairs = [{"prompt": text[:20], "reference": text[20:]} for text in SENTENCES[:2]]
    (place / "pairs.jsonl").write_text("\n".join(map(json.dumps, pairs)), "utf-8")
    prompts = [json.dumps({"prompt": text}) for text in SENTENCES[:2]]
    (place / "prompts.jsonl").write_text("\n".join(prompts), "utf-8")
    return place


def test_there_are_examples() -> None:
    assert {"load", "Model.generate", "Session", "export", "quantize", "verify"} <= set(EXAMPLES)
    assert set(NOT_RUN) <= set(EXAMPLES)


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_example_runs(
    name: str, place: Path, tiny: pocketgpt.Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    if name in NOT_RUN:
        pytest.skip(NOT_RUN[name])
    monkeypatch.chdir(place)
    if name == "export":
        shutil.rmtree(place / "models" / "gpt2")  # which it makes
    names: dict[str, Any] = {"model": tiny, "pocketgpt": pocketgpt}
    names |= {one: getattr(pocketgpt.bulk, one) for one in pocketgpt.bulk.__all__}
    names |= {one: getattr(pocketgpt_export, one) for one in pocketgpt_export.__all__}
    names |= {one: getattr(pocketgpt_quantize, one) for one in pocketgpt_quantize.__all__}
    example = doctest.DocTestParser().get_doctest(EXAMPLES[name], names, name, name, 0)
    report: list[str] = []
    runner = doctest.DocTestRunner(WhereItSays(), optionflags=doctest.ELLIPSIS)
    failed = runner.run(example, out=report.append)
    assert failed.failed == 0, "".join(report)
