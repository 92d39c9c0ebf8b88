"""A model in one file: all that a folder does, from where it lies."""

from __future__ import annotations

import copy
import hashlib
import json
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import pocketgpt
from pocketgpt import ModelFolderError, OptionError, VariantNotFoundError
from pocketgpt.chat import read_format
from pocketgpt.engine.ragged import FIRST_ONNXRUNTIME
from pocketgpt.folder.onnxruntime_version import is_onnxruntime
from pocketgpt.folder.opening import CACHE_ONNXRUNTIME, KvCache, open_folder
from pocketgpt.folder.verification import verify_files

from ..conftest import Cli

PROMPTS = ["The lighthouse keeper", "A small boat", "“Tomorrow,” she said", "灯台守"]
NEW: dict[str, Any] = {"max_new_tokens": 12}
ALL = ["fp32", "int8", "q4"]
CACHES: list[KvCache] = ["float", *(["int8"] if is_onnxruntime(CACHE_ONNXRUNTIME) else [])]  # type: ignore[list-item]


@pytest.fixture(scope="module")
def packed(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All variants of `tiny_folder` in one file. Leave it as it is."""
    path = tmp_path_factory.mktemp("packages") / "größe 🐕.pocketgpt"
    pocketgpt.package(tiny_folder, path, ALL)
    return path


def says(model: pocketgpt.Model) -> list[list[int]]:
    return [result.token_ids for result in model.generate(PROMPTS, **NEW)]


@pytest.mark.parametrize("verify", [False, True])
@pytest.mark.parametrize("kv_cache", CACHES)
@pytest.mark.parametrize("variant", ALL)
def test_it_says_what_the_folder_says(
    tiny_folder: Path, packed: Path, variant: str, kv_cache: KvCache, verify: bool
) -> None:
    """Bit by bit: the graphs and the weights are the same bytes."""
    models = [
        pocketgpt.load(path, variant, kv_cache=kv_cache, verify=verify)
        for path in (tiny_folder, packed)
    ]
    ids = models[0].tokenizer.encode("The lighthouse keeper counted the ships as they came home.")
    folders, ours = (model.new_decoder() for model in models)
    np.testing.assert_array_equal(ours.prefill(ids), folders.prefill(ids))
    np.testing.assert_array_equal(ours.step(5), folders.step(5))
    assert says(models[1]) == says(models[0])
    assert models[1].identity == models[0].identity
    assert models[1].graph.contract == models[0].graph.contract


@pytest.mark.skipif(
    not is_onnxruntime(FIRST_ONNXRUNTIME), reason="rows of different lengths take a newer one"
)
@pytest.mark.parametrize("variant", ALL)
def test_rows_of_different_lengths_go_in_one_pass(packed: Path, variant: str) -> None:
    assert pocketgpt.load(packed, variant).new_decoder(2).widest > 1


def test_low_memory_and_an_assistant(tiny_folder: Path, packed: Path) -> None:
    expected = says(pocketgpt.load(tiny_folder, "fp32"))
    low = pocketgpt.load(str(packed), "fp32", low_memory=True, assistant=packed)
    assert low.assistant is not None
    assert says(low) == expected


@pytest.mark.parametrize(
    "again", [copy.copy, copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))]
)
def test_a_copy_opens_the_file_again(
    packed: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, again: Callable[..., Any]
) -> None:
    monkeypatch.chdir(packed.parent)
    model = pocketgpt.load(packed.name, "q4")
    monkeypatch.chdir(tmp_path)
    other = again(model)
    assert other.variant == "q4"
    assert says(other) == says(model)


def test_sessions_are_of_the_model_wherever_it_lies(
    tiny_folder: Path, packed: Path, tmp_path: Path
) -> None:
    folders, ours = pocketgpt.load(tiny_folder, "int8"), pocketgpt.load(packed, "int8")
    session = folders.session()
    session.append(PROMPTS[0])
    session.save(tmp_path / "text.session")
    restored = ours.restore(tmp_path / "text.session")
    assert restored.generate(**NEW).token_ids == session.generate(**NEW).token_ids


def test_conversations_are_written_as_the_folder_says(tiny_copy: Path, tmp_path: Path) -> None:
    template = "{% for message in messages %}{{ message.content }}|{% endfor %}"
    (tiny_copy / "chat_template.jinja").write_text(template, "utf-8")
    fields = json.loads((tiny_copy / "pocketgpt.json").read_text("utf-8"))
    path = "chat_template.jinja"
    record = {"path": path, "bytes": len(template), "sha256": sha256(template.encode())}
    fields["companions"].append(record)
    (tiny_copy / "pocketgpt.json").write_text(json.dumps(fields), "utf-8")
    target = tmp_path / "chat.pocketgpt"
    pocketgpt.package(tiny_copy, target)
    pytest.importorskip("jinja2")
    assert read_format(target)([{"role": "user", "content": "a"}]) == "a|"


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def test_a_classifier(classifier_folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "classifier.pocketgpt"
    assert pocketgpt.package(classifier_folder, path).variants == ("fp32",)
    expected = pocketgpt.load(classifier_folder).classify(PROMPTS)
    assert pocketgpt.load(path).classify(PROMPTS) == expected


@pytest.mark.parametrize(
    "arguments",
    [
        ["generate", "The keeper", "--max-new-tokens", 3],
        ["choose", "The keeper", " slept", " counted"],
        ["inspect"],
        ["inspect", "--json"],
        ["devices"],
    ],
    ids=lambda arguments: " ".join(map(str, arguments)),
)
def test_verbs_that_read_take_it(
    cli: Cli, tiny_folder: Path, packed: Path, arguments: list[object]
) -> None:
    verb, *rest = arguments
    expected, found = (cli(verb, path, *rest) for path in (tiny_folder, packed))
    assert (found.returncode, found.stderr) == (0, "")
    if verb == "inspect":  # README.md and the like may have been written anew
        assert "model_int8.onnx_data" in found.stdout
    else:
        assert found.stdout == expected.stdout


def test_the_other_verbs_take_it(cli: Cli, packed: Path, tmp_path: Path) -> None:
    text = tmp_path / "text.txt"
    text.write_text("The lighthouse keeper counted the ships.", "utf-8")
    pairs = tmp_path / "pairs.jsonl"
    pairs.write_text('{"prompt": "a", "choices": [" b", " c"], "answer": 0}\n', "utf-8")
    for arguments in (
        ["score", packed, text],
        ["evaluate", packed, pairs, "--metric", "choice"],
        ["inspect", packed, "--profile", "--variant", "q4"],
        ["verify", packed],
        ["verify", packed, "--provider", "cpu"],
        ["bench", packed, "--variant", "q4", "--json"],
    ):
        done = cli(*arguments)
        assert done.returncode == 0, done.stderr


def test_it_cannot_be_added_to(cli: Cli, packed: Path) -> None:
    if pytest.importorskip("pocketgpt_quantize", reason="quantizes"):
        done = cli("quantize", packed, "int8")
        assert done.returncode == 2
        assert "is one file, which nothing can be added to: 'pocketgpt package" in done.stderr


def test_the_only_variant_is_opened(tiny_folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "q4.pocketgpt"
    pocketgpt.package(tiny_folder, path, ["q4"])
    assert pocketgpt.load(path).variant == "q4"
    with pytest.raises(VariantNotFoundError, match="which has q4"):
        pocketgpt.load(path, "fp32")


def test_two_unusual_ones_are_to_be_named(tiny_folder: Path, packed: Path) -> None:
    with pytest.raises(VariantNotFoundError, match="suits CUDAExecutionProvider"):
        open_folder(packed, provider="CUDAExecutionProvider", kv_cache="float")


@pytest.mark.parametrize("verify", [False, True])
def test_what_is_replaced_while_it_is_opened_is_noticed(
    packed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, verify: bool
) -> None:
    path = Path(shutil.copyfile(packed, tmp_path / "model.pocketgpt"))
    opened = open_folder(path, "q4", verify=verify)
    opened.check_unchanged()
    path.write_bytes(packed.read_bytes())
    with pytest.raises(ModelFolderError, match="was changed while it was read"):
        opened.check_unchanged()


def test_a_link_to_it_will_do(packed: Path, tmp_path: Path) -> None:
    """As the hub's cache has files."""
    (tmp_path / "blobs").mkdir()
    shutil.copyfile(packed, tmp_path / "blobs" / "0123abcd")
    link = tmp_path / "model.pocketgpt"
    link.symlink_to("blobs/0123abcd")
    assert says(pocketgpt.load(link, "int8")) == says(pocketgpt.load(packed, "int8"))


def test_what_is_no_package(tmp_path: Path) -> None:
    for content in (b"", b"PK", b"PK\5\6" + bytes(18), b"x" * 1000):
        path = tmp_path / "model.pocketgpt"
        path.write_bytes(content)
        with pytest.raises(ModelFolderError, match=r"is no package, or damaged|has no pocketgpt"):
            pocketgpt.load(path)


def test_verify_names_what_was_changed(packed: Path, tmp_path: Path) -> None:
    assert verify_files(packed).failures == ()
    content = bytearray(packed.read_bytes())
    weights = pocketgpt.load(packed, "q4").manifest.variant("q4").files[1]
    source = open_folder(packed, "q4").weights
    content[source.begin + weights.bytes // 2] ^= 1
    path = tmp_path / "model.pocketgpt"
    path.write_bytes(content)
    (failure,) = verify_files(path).failures
    assert failure.startswith(f"{path}/onnx/model_q4.onnx_data was altered: its sha256")
    with pytest.raises(ModelFolderError, match=r"model_q4\.onnx_data was altered"):
        pocketgpt.load(path, "q4", verify=True)
    assert pocketgpt.load(path, "int8", verify=True).variant == "int8"


def test_small_files_are_checked_whenever_they_are_read(packed: Path, tmp_path: Path) -> None:
    """By their CRC-32, without being asked to."""
    opened = open_folder(packed, "int8")
    for name in ("config.json", "tokenizer.json", "pocketgpt.json", "onnx/model_int8.onnx"):
        content = bytearray(packed.read_bytes())
        content[opened.files.find(name).begin + 5] ^= 1
        path = tmp_path / "model.pocketgpt"
        path.write_bytes(content)
        with pytest.raises(ModelFolderError, match=f"{name} cannot be read: it is damaged"):
            pocketgpt.load(path, "int8", kv_cache="float")


def test_options_are_refused_as_a_folders_are(packed: Path) -> None:
    with pytest.raises(OptionError, match="has no places for LoRA adapters"):
        pocketgpt.load(packed, "fp32", adapters={"a": "nowhere"})
