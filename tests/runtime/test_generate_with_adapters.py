"""Texts with LoRA adapters that are switched at run time, against peft's."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import numpy as np
import onnx_ir as ir
import pytest
import torch
from numpy.typing import NDArray
from peft import PeftModel

import pocketgpt
from pocketgpt import AdapterError, ModelFolderError, OptionError, SessionError
from pocketgpt.engine.graph import open_graph
from pocketgpt.folder.config import read_config
from pocketgpt.folder.manifest import adapter_graph_path, variant_path
from pocketgpt.folder.verification import verify_files
from pocketgpt.sessions.chat import Chat
from pocketgpt_export import export

from ..conftest import Cli, load_reference
from .test_load import edit_manifest, flip_a_bit

NAMES = ("first", "second", None)
PROMPTS = ["The lighthouse keeper", "A small boat", "“Tomorrow,” she said", "Le café"]
NEW: dict[str, Any] = {"max_new_tokens": 16}
LORA = adapter_graph_path("fp32")

Logits = NDArray[np.float32]


@pytest.fixture(scope="module")
def folder(adapter_folder: Path) -> Path:
    return adapter_folder


@pytest.fixture
def folder_copy(folder: Path, tmp_path: Path) -> Path:
    """A copy of it to damage."""
    return Path(shutil.copytree(folder, tmp_path / "model"))


@pytest.fixture(scope="module")
def model(folder: Path, adapters: dict[str, Path]) -> pocketgpt.Model:
    return pocketgpt.load(folder, "fp32", adapters=adapters)


@pytest.fixture(scope="module")
def references(tiny_checkpoint: Path, adapters: dict[str, Path]) -> dict[str | None, Any]:
    """The model as it is and with each adapter, by peft."""
    with_adapters: dict[str | None, Any] = {
        name: PeftModel.from_pretrained(load_reference(tiny_checkpoint), str(path)).eval()
        for name, path in adapters.items()
    }
    return {**with_adapters, None: load_reference(tiny_checkpoint)}


@pytest.mark.parametrize("name", NAMES)
def test_choices_are_ranked_with_an_adapter(
    model: pocketgpt.Model, references: dict[str | None, Any], name: str | None
) -> None:
    choices = [" counted the ships", " slept", " 灯台守"]
    found = model.choose(PROMPTS[0], choices, adapter=name)
    prompt = model.tokenizer.encode(PROMPTS[0])
    for one, choice in zip(found.choices, choices, strict=True):
        ids = model.tokenizer.encode(PROMPTS[0] + choice)
        with torch.inference_mode():
            rows = references[name](torch.tensor([ids[:-1]])).logits[0].log_softmax(-1)
        own = torch.tensor(ids[len(prompt) :])
        expected = rows[len(prompt) - 1 :].gather(1, own[:, None]).sum()
        assert one.log_prob == pytest.approx(float(expected), abs=1e-3)


@pytest.fixture(scope="module")
def expected(
    references: dict[str | None, Any], model: pocketgpt.Model
) -> Callable[..., list[list[int]]]:
    """`(name, **options)` -> the ids that peft continues each prompt by."""

    def generate(name: str | None, **options: Any) -> list[list[int]]:
        made = []
        for prompt in PROMPTS:
            ids = torch.tensor([model.tokenizer.encode(prompt)])
            whole = references[name].generate(
                input_ids=ids,
                attention_mask=torch.ones_like(ids),
                do_sample=False,
                pad_token_id=0,
                **{**NEW, **options},
            )
            new = whole[0, ids.shape[1] :].tolist()
            made.append(new[: new.index(0) + 1] if 0 in new else new)
        return made

    return generate


def test_each_adapter_gives_its_own_texts(expected: Callable[..., list[list[int]]]) -> None:
    """Else the tests below would show nothing."""
    texts = [expected(name) for name in NAMES]
    for index in range(len(PROMPTS)):
        assert len({tuple(text[index]) for text in texts}) == len(NAMES)


def ways(model: pocketgpt.Model) -> Iterator[tuple[str, Callable[[str | None], list[list[int]]]]]:
    """Yield every way to continue the prompts greedily."""

    def by_sessions(name: str | None) -> list[list[int]]:
        made = []
        for prompt in PROMPTS:
            session = model.session(adapter=name)
            session.append(prompt)
            fork = session.fork()
            made.append(session.generate(**NEW).token_ids)
            assert fork.generate(**NEW).token_ids == made[-1]
        return made

    def by_streams(name: str | None) -> list[list[int]]:
        made = []
        for prompt in PROMPTS:
            stream = model.stream(prompt, adapter=name, **NEW)
            text = "".join(stream)
            assert stream.result is not None
            assert stream.result.text == text
            made.append(stream.result.token_ids)
        return made

    yield (
        "one by one",
        lambda name: [model.generate(prompt, adapter=name, **NEW).token_ids for prompt in PROMPTS],
    )
    yield (
        "in a batch",
        lambda name: [result.token_ids for result in model.generate(PROMPTS, adapter=name, **NEW)],
    )
    yield (
        "refilled",
        lambda name: [
            result.token_ids
            for result in model.generate(PROMPTS, adapter=name, batch_size=2, **NEW)
        ],
    )
    yield "streams", by_streams
    yield "sessions", by_sessions


def test_greedy_texts_are_pefts(
    model: pocketgpt.Model, expected: Callable[..., list[list[int]]]
) -> None:
    """Every way, the adapters and none in turn on one loaded model."""
    for _, continued in ways(model):
        for name in (*NAMES, *reversed(NAMES)):
            assert continued(name) == expected(name)


def test_beams_are_pefts(model: pocketgpt.Model, expected: Callable[..., list[list[int]]]) -> None:
    for name in NAMES:
        found = model.generate(PROMPTS, adapter=name, num_beams=3, **NEW)
        assert [result.token_ids for result in found] == expected(name, num_beams=3)


def torch_logits(model: torch.nn.Module, ids: list[int]) -> Logits:
    with torch.inference_mode():
        return cast(Logits, model(torch.tensor([ids])).logits[0].numpy())


@pytest.mark.parametrize("name", NAMES)
def test_every_pass_of_a_decoder_gives_pefts_logits(
    name: str | None, model: pocketgpt.Model, references: dict[str | None, Any]
) -> None:
    """Chunks, steps of one row and of several, padded prompts, all logits at once."""
    ids = np.random.default_rng(3).integers(1, 300, 40).tolist()
    logits = torch_logits(references[name], ids)
    decoder = model.new_decoder(3, adapter=name)
    found = decoder.fill([ids[:5], ids[:9], ids[:2]])
    np.testing.assert_allclose(found, logits[[4, 8, 1]], atol=1e-4)
    found = decoder.step([ids[5], ids[9], ids[2]])
    np.testing.assert_allclose(found, logits[[5, 9, 2]], atol=1e-4)
    np.testing.assert_allclose(decoder.append(ids[6:20], 0), logits[19:20], atol=1e-4)
    np.testing.assert_allclose(decoder.step(ids[20]), logits[20:21], atol=1e-4)
    np.testing.assert_allclose(decoder.score(ids[21:], 0), logits[21:], atol=1e-4)


@pytest.mark.parametrize("name", NAMES)
def test_scores_are_pefts(
    name: str | None, model: pocketgpt.Model, references: dict[str | None, Any], tmp_path: Path
) -> None:
    text = " ".join(PROMPTS)
    ids = model.tokenizer.encode(text)
    log_probs = torch.from_numpy(torch_logits(references[name], ids)).log_softmax(-1)
    wanted = log_probs[range(len(ids) - 1), ids[1:]].numpy()
    np.testing.assert_allclose(model.score(text, adapter=name).log_probs, wanted, atol=1e-4)
    (tmp_path / "text").write_text(text, "utf-8")
    found = model.score_file(tmp_path / "text", adapter=name)
    assert found.perplexity == pytest.approx(np.exp(-wanted.mean()), rel=1e-4)


def test_evaluations_and_chats_take_one(
    model: pocketgpt.Model, expected: Callable[..., list[list[int]]], tmp_path: Path
) -> None:
    answers = [model.tokenizer.decode(ids) for ids in expected("first")]
    lines = [
        json.dumps({"prompt": prompt, "reference": answer})
        for prompt, answer in zip(PROMPTS, answers, strict=True)
    ]
    (tmp_path / "pairs").write_text("\n".join(lines), "utf-8")
    assert model.evaluate(tmp_path / "pairs", "exact", adapter="first", **NEW).scores["exact"] == 1
    assert model.evaluate(tmp_path / "pairs", "exact", **NEW).scores["exact"] == 0
    chat = Chat(model, lambda turns: turns[-1]["content"], "first")
    assert "".join(chat.reply(PROMPTS[0], **NEW)) == answers[0]


def test_the_prefix_cache_keeps_them_apart(
    folder: Path, adapters: dict[str, Path], expected: Callable[..., list[list[int]]]
) -> None:
    model = pocketgpt.load(folder, "fp32", adapters=adapters, prefix_cache_bytes=2**24)
    for again in (False, True):
        for name in NAMES:
            result = model.generate(PROMPTS[0], adapter=name, **NEW)
            assert result.token_ids == expected(name)[0]
            assert bool(result.timings.reused_tokens) == again


def test_the_prefix_cache_has_one_limit_for_all(folder: Path, adapters: dict[str, Path]) -> None:
    token = 2 * 2 * 128 * 4  # layers, sides, width, bytes
    limit = 40 * token
    model = pocketgpt.load(folder, "fp32", adapters=adapters, prefix_cache_bytes=limit)
    for name in NAMES * 2:
        result = model.generate(PROMPTS[0], adapter=name, **NEW)
        assert 0 < model.prefixes.bytes <= limit
        assert not result.timings.reused_tokens  # the others' texts have pushed it out


def test_a_saved_session_belongs_to_its_adapter(
    model: pocketgpt.Model, expected: Callable[..., list[list[int]]], tmp_path: Path
) -> None:
    for name in NAMES:
        session = model.session(adapter=name)
        session.append(PROMPTS[0])
        session.generate(max_new_tokens=8)
        session.save(tmp_path / "saved")
        restored = model.restore(tmp_path / "saved", adapter=name)
        assert restored.adapter == name
        assert session.generate(max_new_tokens=8).token_ids == expected(name)[0][8:]
        assert restored.generate(max_new_tokens=8).token_ids == expected(name)[0][8:]
        for other in {*NAMES} - {name}:
            opened = "without an adapter" if other is None else f"with '{other}'"
            with pytest.raises(SessionError, match=f"or variant than fp32 {opened}; load that one"):
                model.restore(tmp_path / "saved", adapter=other)


def test_a_session_without_an_adapter_is_the_plain_models_too(
    model: pocketgpt.Model, folder: Path, tmp_path: Path
) -> None:
    session = model.session()
    session.append(PROMPTS[0])
    session.generate(max_new_tokens=4)
    session.save(tmp_path / "saved")
    plain = pocketgpt.load(folder, "fp32")
    restored = plain.restore(tmp_path / "saved")
    assert restored.generate(**NEW).token_ids == session.generate(**NEW).token_ids


@pytest.mark.parametrize("name", ["third", "", 3, ["first"]])
def test_an_adapter_that_was_not_loaded(
    name: Any, model: pocketgpt.Model, tiny: pocketgpt.Model, tmp_path: Path
) -> None:
    (tmp_path / "text").write_text("some text", "utf-8")
    calls: list[Callable[[pocketgpt.Model], object]] = [
        lambda m: m.generate("A", adapter=name),
        lambda m: m.generate(["A", "B"], adapter=name),
        lambda m: m.stream("A", adapter=name),
        lambda m: m.session(adapter=name),
        lambda m: m.restore(tmp_path / "text", adapter=name),
        lambda m: m.score("some text", adapter=name),
        lambda m: m.score_file(tmp_path / "text", adapter=name),
        lambda m: m.evaluate(tmp_path / "text", "exact", adapter=name),
    ]
    for call in calls:
        with pytest.raises(OptionError, match=r"no adapter .* was loaded \(first, second was\)"):
            call(model)
        with pytest.raises(OptionError, match=r"no adapter .* was loaded \(none was\)") as caught:
            call(tiny)
        assert "\n" not in str(caught.value)


def test_prompts_of_one_call_share_an_adapter(model: pocketgpt.Model) -> None:
    with pytest.raises(OptionError, match="adapter"):
        model.generate(["A", "B"], options=[{"adapter": "first"}, {"adapter": "second"}])


@pytest.mark.parametrize("adapters", ["first", ["first"], {3: "first"}, {"first": 3}])
def test_what_names_no_adapters(adapters: Any, folder: Path) -> None:
    with pytest.raises(OptionError, match="adapters should name folders"):
        pocketgpt.load(folder, "fp32", adapters=adapters)


def test_a_folder_without_places(tiny_folder: Path, adapters: dict[str, Path]) -> None:
    with pytest.raises(OptionError, match=r"export its checkpoint again with --adapters") as caught:
        pocketgpt.load(tiny_folder, "fp32", adapters=adapters)
    assert "\n" not in str(caught.value)


def test_a_portable_folder(
    tiny_checkpoint: Path, adapters: dict[str, Path], tmp_path: Path
) -> None:
    export(tiny_checkpoint, tmp_path / "model", graph="portable")
    with pytest.raises(OptionError, match=r"again with --graph fused --adapters"):
        pocketgpt.load(tmp_path / "model", adapters=adapters)


def test_an_adapter_that_cannot_be_read(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(AdapterError, match=r"has no adapter_config\.json"):
        pocketgpt.load(folder, "fp32", adapters={"first": tmp_path})


def test_no_adapters_are_none(folder: Path) -> None:
    model = pocketgpt.load(folder, "fp32", adapters={})
    assert not model.adapters
    assert not model.graph.contract.products


def test_the_command(
    cli: Cli, model: pocketgpt.Model, folder: Path, adapters: dict[str, Path]
) -> None:
    path = adapters["second"]
    done = cli("generate", folder, PROMPTS[0], "--adapter", path, "--max-new-tokens", "16")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == model.generate(PROMPTS[0], adapter="second", **NEW).text + "\n"


def test_the_command_without_an_adapter(cli: Cli, folder: Path, tmp_path: Path) -> None:
    done = cli("generate", folder, PROMPTS[0], "--adapter", tmp_path)
    assert done.returncode == 1
    assert "has no adapter_config.json" in done.stderr
    assert done.stderr.count("\n") == 1


def test_the_second_graph_is_checked_when_it_is_opened(
    folder_copy: Path, adapters: dict[str, Path]
) -> None:
    (folder_copy / LORA).write_bytes(b"")
    pocketgpt.load(folder_copy, "fp32")
    with pytest.raises(ModelFolderError, match=r"model_lora\.onnx has 0 bytes"):
        pocketgpt.load(folder_copy, "fp32", adapters=adapters)
    (folder_copy / LORA).unlink()
    pocketgpt.load(folder_copy, "fp32")
    for options in ({"adapters": adapters}, {"verify": True}):
        with pytest.raises(ModelFolderError, match=r"model_lora\.onnx is missing"):
            pocketgpt.load(folder_copy, "fp32", **cast(Any, options))
    (failure,) = verify_files(folder_copy).failures
    assert "model_lora.onnx is missing" in failure


def test_verify_sees_a_bit_of_it(folder_copy: Path) -> None:
    assert not verify_files(folder_copy).failures
    flip_a_bit(folder_copy / LORA)
    (failure,) = verify_files(folder_copy).failures
    assert "model_lora.onnx was altered" in failure
    with pytest.raises(ModelFolderError, match="was altered"):
        pocketgpt.load(folder_copy, "fp32", verify=True)


@pytest.mark.parametrize(
    "change",
    [
        {"path": "onnx/model.onnx"},
        {"path": "../model_lora.onnx"},
        {"bytes": -1},
        {"sha256": "0"},
    ],
    ids=str,
)
def test_the_manifest_is_strict_about_it(folder_copy: Path, change: dict[str, Any]) -> None:
    edit_manifest(
        folder_copy, lambda fields: fields["variants"]["fp32"]["adapter_graph"].update(change)
    )
    with pytest.raises(ModelFolderError, match=r"pocketgpt\.json is damaged"):
        pocketgpt.load(folder_copy, "fp32")


@pytest.mark.parametrize("entry", [[], "onnx/model_lora.onnx", {}, 3])
def test_what_is_no_record_of_it(folder_copy: Path, entry: Any) -> None:
    edit_manifest(
        folder_copy, lambda fields: fields["variants"]["fp32"].update(adapter_graph=entry)
    )
    with pytest.raises(ModelFolderError, match=r"pocketgpt\.json is damaged"):
        pocketgpt.load(folder_copy, "fp32")


def test_its_inputs_are_part_of_the_contract(folder: Path) -> None:
    config = read_config(folder)
    with pytest.raises(ModelFolderError, match=r"takes .*lora_A.*, which no graph of ours does"):
        open_graph(folder / LORA, config)
    with pytest.raises(ModelFolderError, match=r"lacks 'transformer\.h\.0\.attn\.c_attn\.lora_A'"):
        open_graph(folder / variant_path("fp32"), config, adapters=True)
    opened = open_graph(folder / LORA, config, adapters=True)
    assert opened.contract.kind == "fused"
    assert len(opened.contract.products) == 4 * config.n_layer
    assert opened.contract.products["transformer.h.1.mlp.c_proj"] == (512, 128)


def reshape(graph: ir.Graph) -> None:
    value = graph.initializers["transformer.h.0.attn.c_attn.lora_A"]
    value.shape, value.const_value = ir.Shape([64, 0]), ir.tensor(np.zeros((64, 0), np.float32))


def rename(graph: ir.Graph) -> None:
    graph.initializers["transformer.h.0.attn.c_attn.lora_A"].name = "transformer.h.9.lora_A"


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (reshape, "of shape|cannot load"),
        (rename, r"lacks 'transformer\.h\.0\.attn\.c_attn\.lora_A'"),
    ],
)
def test_a_foreign_second_graph_is_refused(
    change: Callable[[ir.Graph], None], says: str, folder_copy: Path
) -> None:
    model = ir.load(folder_copy / LORA)
    change(model.graph)
    ir.save(model, folder_copy / LORA)
    with pytest.raises(ModelFolderError, match=says) as caught:
        open_graph(folder_copy / LORA, read_config(folder_copy), adapters=True)
    assert "\n" not in str(caught.value)
