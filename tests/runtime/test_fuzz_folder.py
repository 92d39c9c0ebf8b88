"""Mutated model folders: each runs, or gets one line; none takes the process down or hangs it.

They are loaded and run in processes of their own, a batch of mutations to each, so that a crash of
ONNX Runtime, which reads the graphs, is a failure of the mutation it came from.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import onnx
import onnx_ir as ir
import pytest

import pocketgpt
from pocketgpt import InferenceError
from pocketgpt.folder.manifest import read_manifest, record_files, write_manifest

Mutation = Callable[[Path], None]

JSON_FILES = ("pocketgpt.json", "config.json", "generation_config.json", "tokenizer.json")
GRAPH, WEIGHTS = "onnx/model_int8.onnx", "onnx/model_int8.onnx_data"
BATCHES = 4
SECONDS = 240  # for a batch

# A line for every folder that did not do what it should; the last word is that it got to the end.
RUN = """
import resource, sys, traceback
import numpy as np
import pocketgpt

resource.setrlimit(resource.RLIMIT_AS, (12 << 30, 12 << 30))
for folder in sys.argv[1:]:
    print("begin", folder, flush=True)
    try:
        model = pocketgpt.load(folder, "int8", threads=1, kv_cache="float")
        result = model.generate("The lighthouse", max_new_tokens=3, logprobs=2)
        assert len(result.token_ids) <= 3 and isinstance(result.text, str)
        print("ran", folder)
        for verb in (lambda: pocketgpt.load(folder, verify=True), lambda: model.score("A small")):
            try:
                verb()
            except pocketgpt.PocketGPTError as error:
                assert "\\n" not in str(error) and len(str(error)) < 1500, str(error)
    except pocketgpt.PocketGPTError as error:
        line = str(error)
        assert "unknown option" not in line or "generation_config" in line, line
        if "\\n" in line or "\\r" in line or not 20 < len(line) < 1500:
            print("WRONG", folder, repr(line)[:300])
    except BaseException as error:
        where = traceback.format_exc()[-600:].replace("\\n", " | ")
        print("WRONG", folder, repr(error)[:300], where)
print("done", flush=True)
"""

ODD: list[Any] = [None, True, -1, 0, 2**31, 2**63, 10**400, 1.5, 1e308, "", "a\nb", "\x00", [], {}]
ODD += [[[]], {"a": None}, "../../x", "/etc/passwd", float("inf"), float("nan"), 400, 96, 3]


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield the way to every value of a JSON tree; of a long list or map a few."""
    if path:
        yield path
    pairs = list(value.items()) if isinstance(value, dict) else []
    pairs += list(enumerate(value)) if isinstance(value, list) else []
    for key, inside in pairs[:60]:
        yield from places(inside, (*path, key))


def json_edited(name: str, seed: int) -> Mutation:
    def mutate(folder: Path) -> None:
        chooser = random.Random(seed)
        tree = json.loads((folder / name).read_text("utf-8"))
        # Nearer to the root more often: there are fewer of them, and they are read.
        way = min(chooser.sample(list(places(tree)), 3), key=len)
        at = tree
        for key in way[:-1]:
            at = at[key]
        match chooser.randrange(4):
            case 0:
                del at[way[-1]]
            case 1 if isinstance(at, dict):
                at[f"{way[-1]}x"] = at.pop(way[-1])
            case _:
                at[way[-1]] = chooser.choice(ODD)
        (folder / name).write_text(json.dumps(tree), "utf-8")

    return mutate


def bytes_changed(name: str, seed: int) -> Mutation:
    """Flip a few bits, cut out, repeat or overwrite a piece."""

    def mutate(folder: Path) -> None:
        chooser = random.Random(seed)
        content = bytearray((folder / name).read_bytes())
        for _ in range(chooser.choice([1, 1, 3])):
            at = chooser.randrange(len(content))
            length = min(chooser.choice([1, 8, 300]), len(content) - at)
            match chooser.randrange(4):
                case 0:
                    content[at] ^= 1 << chooser.randrange(8)
                case 1:
                    del content[at : at + length]
                case 2:
                    content[at:at] = content[at : at + length]
                case 3:
                    content[at : at + length] = chooser.randbytes(length)
            content = content or bytearray(b"0")
        (folder / name).write_bytes(content)
        keep_manifest_true(folder, name)

    return mutate


def graph_edited(seed: int) -> Mutation:
    """Change the graph where it still can be parsed: what a foreign or a hostile graph may say."""

    def mutate(folder: Path) -> None:
        chooser = random.Random(seed)
        model = onnx.load(folder / GRAPH, load_external_data=False)
        graph = model.graph
        node = chooser.choice(graph.node)
        weight = chooser.choice([w for w in graph.initializer if w.external_data])
        external = {entry.key: entry for entry in weight.external_data}
        match seed % 10:
            case 0:
                graph.node.remove(node)
            case 1:
                node.op_type = chooser.choice([n.op_type for n in graph.node] + ["Unknown"])
            case 2 | 3 if node.attribute:
                attribute = chooser.choice(node.attribute)
                attribute.i = chooser.choice([-1, 0, 1, 3, 7, 2**31, 2**62])
                attribute.f = chooser.choice([0.0, -1.0, 1e38])
            case 4:
                node.input[chooser.randrange(len(node.input))] = chooser.choice(graph.node).output[
                    0
                ]
            case 5:
                weight.dims[0] = chooser.choice([0, 1, 2**31, 2**40, weight.dims[0] + 1])
            case 6:
                external["offset"].value = chooser.choice(["-1", "1", "x", str(2**62), "4096"])
            case 7:
                external["length"].value = chooser.choice(["-1", "0", "x", str(2**62)])
            case 8:
                external["location"].value = chooser.choice(
                    ["../tokenizer.json", "/etc/passwd", "", ".", "model.onnx_data", "missing"]
                )
            case _:
                weight.data_type = chooser.choice([1, 2, 6, 7, 10, 11, 99])
        (folder / GRAPH).write_bytes(model.SerializeToString())
        keep_manifest_true(folder, GRAPH)

    return mutate


def keep_manifest_true(folder: Path, name: str) -> None:
    """Give a file's new size to the manifest, so that the file is read and not only measured."""
    if not name.startswith("onnx"):
        return
    path = folder / "pocketgpt.json"
    fields = json.loads(path.read_text("utf-8"))
    for variant in fields["variants"].values():
        for record in variant["files"]:
            record["bytes"] = (folder / record["path"]).stat().st_size
    path.write_text(json.dumps(fields), "utf-8")


def deep(name: str) -> Mutation:
    def mutate(folder: Path) -> None:
        (folder / name).write_text('{"a":' * 100_000 + "1" + "}" * 100_000, "utf-8")

    return mutate


def swapped(one: str, other: str) -> Mutation:
    def mutate(folder: Path) -> None:
        (folder / one).rename(folder / "between")
        (folder / other).rename(folder / one)
        (folder / "between").rename(folder / other)
        keep_manifest_true(folder, "onnx")

    return mutate


def linked(name: str, target: str) -> Mutation:
    def mutate(folder: Path) -> None:
        (folder / name).unlink()
        (folder / name).symlink_to(target)

    return mutate


def replaced_by_folder(name: str) -> Mutation:
    def mutate(folder: Path) -> None:
        (folder / name).unlink()
        (folder / name).mkdir()

    return mutate


def mutations() -> Iterator[tuple[str, Mutation]]:
    for seed in range(25):
        for name in ("pocketgpt.json", "config.json", "generation_config.json"):
            yield f"{name} edited {seed}", json_edited(name, seed)
    for seed in range(15):
        yield f"tokenizer.json edited {seed}", json_edited("tokenizer.json", seed)
    for name in JSON_FILES:
        for seed in range(8):
            yield f"{name} bytes {seed}", bytes_changed(name, seed)
        yield f"{name} deep", deep(name)
        yield f"{name} to elsewhere", linked(name, "../outside.json")
        yield f"{name} to /dev/zero", linked(name, "/dev/zero")
        yield f"{name} to itself", linked(name, name)
        yield f"{name} a folder", replaced_by_folder(name)
    for seed in range(25):
        yield f"graph bytes {seed}", bytes_changed(GRAPH, seed)
    for seed in range(60):
        yield f"graph edited {seed}", graph_edited(seed)
    for seed in range(10):
        yield f"weights bytes {seed}", bytes_changed(WEIGHTS, seed)
    for name in (GRAPH, WEIGHTS):
        yield f"{name} to elsewhere", linked(name, "../../outside.json")
        yield f"{name} to itself", linked(name, Path(name).name)
        yield f"{name} a folder", replaced_by_folder(name)
    yield "graphs swapped", swapped(GRAPH, "onnx/model_q4.onnx")
    yield "fp32's graph", swapped(GRAPH, "onnx/model.onnx")
    yield "weights swapped", swapped(WEIGHTS, "onnx/model_q4.onnx_data")
    yield "graph and weights swapped", swapped(GRAPH, WEIGHTS)
    yield "graph and text swapped", swapped(GRAPH, "evaluation.txt")
    yield "configuration and tokenizer swapped", swapped("config.json", "tokenizer.json")


def tree(folder: Path) -> dict[str, float]:
    return {str(path): path.lstat().st_mtime_ns for path in folder.rglob("*")}


@pytest.mark.skipif(sys.platform != "linux", reason="RLIMIT_AS")
@pytest.mark.parametrize("batch", range(BATCHES))
def test_mutated_folders(tiny_folder: Path, tmp_path: Path, batch: int) -> None:
    cases = list(mutations())
    assert len(cases) >= 200
    (tmp_path / "outside.json").write_text("{}", "utf-8")
    names = {}
    for index, (name, mutate) in list(enumerate(cases))[batch::BATCHES]:
        folder = Path(shutil.copytree(tiny_folder, tmp_path / str(index)))
        mutate(folder)
        names[str(folder)] = name
    before = tree(tmp_path)
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", RUN, *names],
        capture_output=True,
        text=True,
        timeout=SECONDS,
        env={**os.environ, "HOME": str(tmp_path)},
    )
    lines = done.stdout.splitlines()
    wrong = [line for line in lines if line.startswith("WRONG")]
    assert [(names[line.split()[1]], line) for line in wrong] == []
    crashed = names.get(lines[-1].removeprefix("begin "), "") if lines else "the start"
    assert (lines[-1:], done.returncode) == (["done"], 0), (crashed, done.stderr[-500:])
    assert tree(tmp_path) == before
    ran = sum(line.startswith("ran") for line in lines)
    assert 10 < ran < len(names) / 2  # or this shows little


@pytest.mark.parametrize("number", [float("nan"), float("inf"), -float("inf")])
def test_weights_that_make_no_numbers(tiny_copy: Path, number: float) -> None:
    """Neither a token nor a score is made up from them."""
    program = ir.load(tiny_copy / "onnx/model.onnx")
    for name, value in program.graph.initializers.items():
        assert value.const_value is not None
        array = value.const_value.numpy().copy()
        if name.endswith("ln_f.bias"):
            array[0] = number
        value.const_value = ir.tensor(array, name=name)
    ir.save(program, tiny_copy / "onnx/model.onnx", external_data="model.onnx_data")
    manifest = read_manifest(tiny_copy)
    entry = replace(manifest.variants["fp32"], files=record_files(tiny_copy, "fp32"))
    write_manifest(tiny_copy, manifest.with_variant("fp32", entry))
    model = pocketgpt.load(tiny_copy, "fp32")
    for run in (
        lambda: model.generate("A", max_new_tokens=2),
        lambda: model.generate(["A", "B C"], max_new_tokens=2, do_sample=True, seed=1),
        lambda: model.generate("A", max_new_tokens=2, num_beams=2),
        lambda: model.score("A small boat"),
    ):
        with pytest.raises(InferenceError, match="the model's logits are no numbers"):
            run()
