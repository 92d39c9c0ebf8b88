"""What other runtimes read in a model folder: what it says, and that what was edited stays."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import onnxruntime as ort
import pytest

from pocketgpt.folder.card import model_card
from pocketgpt.folder.config import read_config
from pocketgpt.folder.file_record import FileRecord
from pocketgpt.folder.manifest import (
    Manifest,
    Variant,
    read_manifest,
    variant_files,
    write_manifest,
)
from pocketgpt.folder.neighbours import NEIGHBOURS, neighbours_of, write_neighbours
from pocketgpt.folder.neighbours.bpe import bpe_files
from pocketgpt.folder.neighbours.genai import genai_config
from pocketgpt.folder.neighbours.merging import merged
from pocketgpt.folder.neighbours.model_package import model_package
from pocketgpt.folder.neighbours.transformers_js import transformers_js_config
from pocketgpt.folder.onnxruntime_version import is_onnxruntime
from pocketgpt.folder.verification import verify_files

FORMS = [
    # what is there, what we may have written, what we would write, what should be there then
    ("q4", [], "int8", "q4"),
    ("fp32", ["fp32"], "int8", "int8"),
    ("fp32", ["int8"], "q8", "fp32"),
    ("int8", ["fp32", "int8"], "q8", "q8"),
    (True, [{"a": 1}], {"a": 2}, True),
    ({"a": 1, "mine": 3}, [{"a": 1}], {"a": 2, "b": 4}, {"a": 2, "mine": 3, "b": 4}),
    ({"a": 9}, [{"a": 1}], {"a": 2}, {"a": 9}),
    ({"a": 1, "old": 5}, [{"old": 5}], {"a": 2}, {"a": 1}),
    ({"a": 1, "old": 6}, [{"old": 5}], {"a": 2}, {"a": 1, "old": 6}),
    ({"b": {"c": 1}}, [{"b": {"c": 1}}], {"b": {"c": 2}}, {"b": {"c": 2}}),
    ({"a": 1, "b": 2}, [{"b": 2, "a": 1}], {"b": 3, "a": 4}, {"a": 4, "b": 3}),
]


@pytest.mark.parametrize(("known", "before", "after", "expected"), FORMS)
def test_merging(known: Any, before: list[Any], after: Any, expected: Any) -> None:
    assert json.dumps(merged(known, before, after)) == json.dumps(expected)


def of(folder: Path, *names: str, **changes: Any) -> Manifest:
    """Return the folder's manifest as if it had other variants."""
    manifest = read_manifest(folder)
    files = manifest.variants["fp32"].files
    variants = {}
    for name in names:
        renamed = zip(files, variant_files(name), strict=True)
        variants[name] = Variant(tuple(replace(file, path=path) for file, path in renamed), {})
    return replace(manifest, variants=variants, **changes)


def test_transformers_js_is_told_which_file_to_take(tiny_folder: Path) -> None:
    assert transformers_js_config(of(tiny_folder, "fp32")) == {
        "dtype": "fp32",
        "device_config": {
            "wasm": {"dtype": "fp32"},
            "webgpu": {"dtype": "fp32"},
            "cuda": {"dtype": "fp32"},
        },
        "use_external_data_format": {"model.onnx": True},
    }
    every = transformers_js_config(of(tiny_folder, "fp32", "q4", "q8", "fp16", "mixed"))
    assert every == {
        "dtype": "q8",
        "device_config": {
            "wasm": {"dtype": "q8"},
            "webgpu": {"dtype": "q4"},
            "cuda": {"dtype": "fp16"},
        },
        "use_external_data_format": {
            "model.onnx": True,
            "model_q4.onnx": True,
            "model_quantized.onnx": True,
            "model_fp16.onnx": True,
            "model_mixed.onnx": True,
        },
        "kv_cache_dtype": {"fp16": "float16"},
    }
    q4 = transformers_js_config(of(tiny_folder, "fp32", "q4"))
    assert (q4["dtype"], q4["device_config"]["wasm"]) == ("fp32", {"dtype": "q4"})


def test_the_folder_is_a_model_package(tiny_folder: Path) -> None:
    found = model_package(of(tiny_folder, "fp32", "q4", "fp16", "int8"))
    variants = found["components"]["model"]["variants"]
    on_cpu = [name for name, entry in variants.items() if entry["ep"] == "CPUExecutionProvider"]
    assert on_cpu == ["int8", "fp32", "q4", "fp16"]
    assert variants["fp16-cuda"]["ep"] == "CUDAExecutionProvider"
    assert variants["q4"]["executor_info"] == {"ort": {"model_file": "model_q4.onnx"}}
    portable = model_package(of(tiny_folder, "fp32", graph="portable"))
    assert list(portable["components"]["model"]["variants"]) == ["fp32", "fp32-qnn"]


@pytest.mark.skipif(not is_onnxruntime("1.32"), reason="has no Model Packages")
def test_onnxruntime_opens_the_package(tiny_folder: Path) -> None:
    package = ort.ModelPackageContext(str(tiny_folder))
    assert package.get_component_names() == ["model"]
    assert package.get_variant_names("model") == ["int8", "fp32", "q4", "fp32-dml"]
    chosen = package.select_component("model", ort.ModelPackageOptions(ort.SessionOptions()))
    assert chosen.get_selected_variant_name() == "int8"
    options = ort.SessionOptions()
    options.log_severity_level = 3
    session = chosen.create_session(options)
    other = ort.InferenceSession(str(tiny_folder / "onnx" / "model_int8.onnx"), options)
    assert [i.name for i in session.get_inputs()] == [i.name for i in other.get_inputs()]


def test_genai_is_told_of_the_graph(tiny_folder: Path) -> None:
    found = json.loads((tiny_folder / "genai_config.json").read_text("utf-8"))
    assert found["model"]["decoder"]["filename"] == "onnx/model_int8.onnx"
    assert found["model"]["context_length"] == found["search"]["max_length"] == 96
    assert found["model"]["eos_token_id"] == 0
    assert found["search"]["past_present_share_buffer"] is True


def test_genai_searches_as_the_folder_says(tiny_folder: Path) -> None:
    config = read_config(tiny_folder)
    said = {
        "eos_token_id": [3, 5],
        "bos_token_id": None,
        "pad_token_id": 7,
        "do_sample": True,
        "num_beams": 2,
        "top_k": 0,
        "top_p": 0.9,
        "temperature": "hot",
        "renormalize_logits": True,
    }
    found = genai_config(of(tiny_folder, "fp32"), config, said)
    assert found is not None
    assert [found["model"][f"{n}_token_id"] for n in ("bos", "eos", "pad")] == [3, [3, 5], 7]
    assert found["search"] == {
        "do_sample": True,
        "num_beams": 2,
        "top_p": 0.9,
        "past_present_share_buffer": False,
        "max_length": 96,
    }
    assert genai_config(of(tiny_folder, "fp32"), config, {"eos_token_id": None}) is None


def test_a_classifier_has_no_genai_config(classifier_folder: Path) -> None:
    assert not (classifier_folder / "genai_config.json").exists()
    assert (classifier_folder / "manifest.json").exists()


BPE = {"type": "BPE", "vocab": {"a": 0, "b": 1, "ab": 2, "Ġ": 3}, "merges": ["a b"]}
PAIRS = {**BPE, "merges": [["a", "b"]]}
BYTES = {"type": "ByteLevel"}


@pytest.mark.parametrize("model", [BPE, PAIRS])
def test_byte_level_bpe_is_written_as_a_pair(model: dict[str, Any]) -> None:
    found = bpe_files({"model": model, "decoder": BYTES})
    assert found["merges.txt"] == "#version: 0.2\na b\n"
    assert json.loads(found["vocab.json"]) == BPE["vocab"]
    assert "Ġ" in found["vocab.json"]


@pytest.mark.parametrize(
    "tokenizer",
    [
        {},
        {"model": BPE, "decoder": None},
        {"model": BPE, "decoder": {"type": "Metaspace"}},
        {"model": {"type": "WordPiece", "vocab": {}}, "decoder": BYTES},
        {"model": {**BPE, "merges": [["a b", "c"]]}, "decoder": BYTES},
        {"model": {**BPE, "merges": ["a b c"]}, "decoder": BYTES},
        {"model": {**BPE, "merges": None}, "decoder": BYTES},
    ],
)
def test_other_tokenizers_have_no_pair(tokenizer: dict[str, Any]) -> None:
    assert bpe_files(tokenizer) == {}


def test_the_pair_is_what_transformers_writes(tiny_checkpoint: Path, tiny_folder: Path) -> None:
    """merges.txt line by line, vocab.json by its values."""
    theirs = (tiny_checkpoint / "merges.txt").read_text("utf-8").splitlines()
    assert (tiny_folder / "merges.txt").read_text("utf-8").splitlines()[1:] == theirs[1:]
    ours = (tiny_folder / "vocab.json").read_text("utf-8")
    assert json.loads(ours) == json.loads((tiny_checkpoint / "vocab.json").read_text("utf-8"))


def older(folder: Path) -> Manifest:
    """Make a folder what an earlier version left: without these files; return its manifest."""
    manifest = read_manifest(folder)
    for name in NEIGHBOURS:
        (folder / name).unlink()
    config = json.loads((folder / "config.json").read_text("utf-8"))
    config["transformers.js_config"] = {"use_external_data_format": {"model.onnx": True}}
    (folder / "config.json").write_text(json.dumps(config), "utf-8")
    kept = tuple(r for r in manifest.companions if r.path not in (*NEIGHBOURS, "config.json"))
    manifest = replace(manifest, companions=(*kept, FileRecord.of(folder, "config.json")))
    write_manifest(folder, manifest)
    return manifest


def test_an_older_folder_gets_them(tiny_copy: Path) -> None:
    manifest = older(tiny_copy)
    assert verify_files(tiny_copy).failures == ()
    write_manifest(tiny_copy, write_neighbours(tiny_copy, manifest, [manifest]))
    assert all((tiny_copy / name).is_file() for name in NEIGHBOURS)
    config = json.loads((tiny_copy / "config.json").read_text("utf-8"))
    assert config["transformers.js_config"]["dtype"] == "int8"
    assert verify_files(tiny_copy).failures == ()


@pytest.mark.parametrize("name", NEIGHBOURS)
def test_an_edited_file_is_its_editors(tiny_copy: Path, name: str) -> None:
    """It stays, and the manifest no longer answers for it."""
    before = read_manifest(tiny_copy)
    (tiny_copy / name).write_text("{}", "utf-8")
    fewer = replace(before, variants={"fp32": before.variants["fp32"]})
    texts = neighbours_of(tiny_copy, fewer, [before])
    assert set(texts) == {"config.json", *NEIGHBOURS} - {name}
    write_neighbours(tiny_copy, fewer, [before])
    assert (tiny_copy / name).read_text("utf-8") == "{}"


def test_a_readme_that_was_there_first_stays(tiny_copy: Path) -> None:
    manifest = older(tiny_copy)
    (tiny_copy / "README.md").write_text("# Mine\n", "utf-8")
    listed = write_neighbours(tiny_copy, manifest, [manifest])
    assert (tiny_copy / "README.md").read_text("utf-8") == "# Mine\n"
    assert "README.md" not in [record.path for record in listed.companions]


def test_files_of_an_older_version_are_known_by_their_hash(tiny_copy: Path) -> None:
    """Even where this version would have written something else."""
    manifest = read_manifest(tiny_copy)
    (tiny_copy / "README.md").write_text("as an older version had it", "utf-8")
    kept = tuple(r for r in manifest.companions if r.path != "README.md")
    known = replace(manifest, companions=(*kept, FileRecord.of(tiny_copy, "README.md")))
    write_neighbours(tiny_copy, known, [known])
    assert (tiny_copy / "README.md").read_text("utf-8").startswith("---\n")


def test_what_the_user_told_transformers_js_stays(tiny_copy: Path) -> None:
    before = read_manifest(tiny_copy)
    path = tiny_copy / "config.json"
    config = json.loads(path.read_text("utf-8"))
    config["transformers.js_config"]["dtype"] = "q4"
    config["transformers.js_config"]["device_config"]["webgpu"] = {"dtype": "fp32", "x": 1}
    config["transformers.js_config"]["kv_cache_dtype"] = "float16"
    path.write_text(json.dumps(config), "utf-8")
    after = replace(before, variants={"fp32": before.variants["fp32"]})
    write_neighbours(tiny_copy, after, [before])
    settings = json.loads(path.read_text("utf-8"))["transformers.js_config"]
    assert settings["dtype"] == "q4"
    assert settings["device_config"]["webgpu"] == {"dtype": "fp32", "x": 1}
    assert settings["device_config"]["wasm"] == {"dtype": "fp32"}
    assert settings["use_external_data_format"] == {"model.onnx": True}
    assert settings["kv_cache_dtype"] == "float16"


def test_an_edited_card_is_no_damage(tiny_copy: Path) -> None:
    with (tiny_copy / "README.md").open("a", encoding="utf-8") as file:
        file.write("\nIt writes like my grandmother.\n")
    assert verify_files(tiny_copy).failures == ()
    (tiny_copy / "manifest.json").write_text("{}", "utf-8")
    (failure,) = verify_files(tiny_copy).failures
    assert "manifest.json has 2 bytes" in failure


def front_matter(card: str) -> dict[str, Any]:
    yaml = pytest.importorskip("yaml")
    begin, matter, _ = card.split("---\n", 2)
    assert begin == ""
    found: dict[str, Any] = yaml.safe_load(matter)
    return found


def test_the_card(tiny_folder: Path) -> None:
    card = (tiny_folder / "README.md").read_text("utf-8")
    assert card == model_card(tiny_folder, read_manifest(tiny_folder))
    assert front_matter(card) == {
        "library_name": "pocketgpt",
        "pipeline_tag": "text-generation",
        "tags": ["gpt2", "onnx", "onnxruntime", "onnxruntime-genai", "transformers.js"],
    }
    assert "states no licence" in card
    quality = read_manifest(tiny_folder).variants["q4"].quality
    assert f"| {quality['loss']:+.2%} |" in card
    for runtime in ("PocketGPT", "Optimum", "ONNX Runtime GenAI", "transformers.js"):
        assert f"### {runtime}\n" in card
    assert str(tiny_folder.parent) not in card
    assert str(Path(read_manifest(tiny_folder).source).parent) not in card


def test_the_card_of_a_hub_model(tiny_folder: Path) -> None:
    manifest = replace(
        read_manifest(tiny_folder),
        source="someone/gpt2_*tales*",
        revision=40 * "a",
        license="mit",
        languages=("en", "no"),
        remarks=("a <script> | was *left* out",),
    )
    card = model_card(tiny_folder, manifest, ["int8"], repo="me/tales")
    assert front_matter(card) == {
        "license": "mit",
        "language": ["en", "no"],
        "library_name": "pocketgpt",
        "pipeline_tag": "text-generation",
        "base_model": "someone/gpt2_*tales*",
        "base_model_relation": "quantized",
        "tags": ["gpt2", "onnx", "onnxruntime", "onnxruntime-genai", "transformers.js"],
    }
    assert "# gpt2\\_\\*tales\\*\n" in card
    assert "Its licence is mit" in card
    assert r"- a \<script\> \| was \*left\* out" in card
    assert 'pocketgpt.load("me/tales", variant="int8")' in card
    assert "model_q4.onnx" not in card


def test_the_card_of_a_classifier(classifier_folder: Path) -> None:
    card = (classifier_folder / "README.md").read_text("utf-8")
    assert front_matter(card)["pipeline_tag"] == "text-classification"
    assert "model.classify(" in card
    assert "GenAI" not in card


def test_a_reduced_folder(tiny_folder: Path, tmp_path: Path) -> None:
    """Of a part of the variants all of it speaks of these alone."""
    manifest = read_manifest(tiny_folder)
    part = replace(manifest, variants={"q4": manifest.variants["q4"]})
    texts = neighbours_of(tiny_folder, part, [manifest])
    assert set(texts) == {"config.json", *NEIGHBOURS}
    for name, text in texts.items():
        assert "model_int8.onnx" not in text, name
    settings = json.loads(texts["config.json"])["transformers.js_config"]
    assert settings["device_config"] == {"wasm": {"dtype": "q4"}, "webgpu": {"dtype": "q4"}}
    assert json.loads(texts["genai_config.json"])["model"]["decoder"]["filename"] == (
        "onnx/model_q4.onnx"
    )
    target = Path(shutil.copytree(tiny_folder, tmp_path / "reduced"))
    write_manifest(target, write_neighbours(target, part, [manifest]))
    assert verify_files(target).failures == ()
