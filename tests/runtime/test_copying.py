"""Models copied to other places in memory and to other processes: they open their folders again."""

from __future__ import annotations

import copy
import multiprocessing
import pickle
from collections.abc import Callable
from pathlib import Path

import pytest

import pocketgpt


def text_of(model: pocketgpt.Model, prompt: str) -> str:
    return model.generate(prompt, max_new_tokens=6).text


def test_a_pickled_model_opens_the_same_variant_of_its_folder(
    tiny_folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Loaded by a path that means nothing where it is opened again."""
    monkeypatch.chdir(tiny_folder.parent)
    model = pocketgpt.load(tiny_folder.name, "q4", threads=1, prefix_cache_bytes=1000)
    content = pickle.dumps(model)
    assert len(content) < 1000
    monkeypatch.chdir(tmp_path)
    again = pickle.loads(content)
    assert isinstance(again, pocketgpt.Model)
    assert (again.variant, again.identity) == ("q4", model.identity)
    assert text_of(again, "灯台守") == text_of(model, "灯台守")


@pytest.mark.parametrize("make", [copy.copy, copy.deepcopy])
def test_a_copy_is_a_model_of_its_own(tiny: pocketgpt.Model, make: object) -> None:
    assert callable(make)
    again = make(tiny)
    assert again is not tiny
    assert text_of(again, "a 💃") == text_of(tiny, "a 💃")


def test_a_process_that_is_spawned_can_be_handed_a_model(tiny: pocketgpt.Model) -> None:
    context = multiprocessing.get_context("spawn")
    with context.Pool(1) as pool:
        found = pool.apply(text_of, (tiny, "The keeper"))
    assert found == text_of(tiny, "The keeper")


def test_a_folder_that_is_gone_is_named(tiny_copy: Path) -> None:
    content = pickle.dumps(pocketgpt.load(tiny_copy))
    tiny_copy.rename(tiny_copy.with_name("elsewhere"))
    with pytest.raises(pocketgpt.ModelFolderError, match=tiny_copy.name):
        pickle.loads(content)


@pytest.mark.parametrize("make", [copy.copy, copy.deepcopy])
def test_a_copied_session_has_a_cache_of_its_own(
    tiny: pocketgpt.Model, make: Callable[[pocketgpt.Session], pocketgpt.Session]
) -> None:
    session = tiny.session()
    session.append("The keeper")
    session.generate(max_new_tokens=3)
    other = make(session)
    other.append(" counted the ships and counted the")
    other.generate(max_new_tokens=5)
    session.append(" sold three")
    afresh = tiny.session()
    afresh.append(session.token_ids)
    found = session.generate(max_new_tokens=6)
    assert found.token_ids == afresh.generate(max_new_tokens=6).token_ids


def test_a_session_is_saved_rather_than_pickled(tiny: pocketgpt.Model) -> None:
    with pytest.raises(TypeError, match="save it"):
        pickle.dumps(tiny.session())
