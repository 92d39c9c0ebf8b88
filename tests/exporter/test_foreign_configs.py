"""config.json as other tools and other years leave it: what computes is taken, and that alone."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import (
    GPT2Config,
    GPT2DoubleHeadsModel,
    GPT2ForQuestionAnswering,
    GPT2ForTokenClassification,
    GPT2LMHeadModel,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)

import pocketgpt
from pocketgpt import CheckpointError
from pocketgpt_export import export
from pocketgpt_export.source.checkpoint import load_checkpoint

from .conftest import tiny_config, tiny_model

IDS = [7, 300, 4, 81, 19, 5]


def edit_config(folder: Path, *dropped: str, **fields: object) -> None:
    path = folder / "config.json"
    found = json.loads(path.read_text("utf-8"))
    kept = {name: value for name, value in found.items() if name not in dropped}
    path.write_text(json.dumps({**kept, **fields}), "utf-8")


def logits(model: torch.nn.Module) -> torch.Tensor:
    with torch.inference_mode():
        found: torch.Tensor = model(torch.tensor([IDS])).logits
    return found


def assert_same(found: torch.nn.Module, expected: torch.nn.Module) -> None:
    torch.testing.assert_close(logits(found), logits(expected.eval()), rtol=0, atol=1e-5)


OF_PROGRAMS: dict[str, dict[str, Any]] = {
    "outputs": {"return_dict": False, "output_attentions": True, "output_hidden_states": True},
    "torchscript": {"torchscript": True, "use_cache": False, "gradient_checkpointing": True},
    "attention": {"_attn_implementation": "flash_attention_2", "attn_implementation": "sdpa"},
    "dtypes": {"dtype": "int4", "torch_dtype": "float8_of_tomorrow", "use_bfloat16": True},
    "code": {"auto_map": {"AutoModelForCausalLM": "modeling.Other"}, "custom_pipelines": {"a": 1}},
    "leftovers": {
        "quantization_config": {
            "quant_method": "bitsandbytes",
            "load_in_8bit": False,
            "load_in_4bit": False,
        },
        "is_decoder": True,
        "chunk_size_feed_forward": 4,
        "pruned_heads": {},
    },
    "training": {"resid_pdrop": "0.1", "embd_pdrop": float("nan"), "initializer_range": -1},
    "labels": {
        "num_labels": 10**9,  # transformers would name each
        "id2label": {"a": "b"},
        "problem_type": "next token",
    },
    "architectures": {"architectures": [["GPT2LMHeadModel"], {}, None]},
    "a common name": {"hidden_size": None},
    "nulls": {
        "tie_word_embeddings": None,
        "scale_attn_weights": None,
        "id2label": None,
        "label2id": ["A"],
        "quantization_config": None,
    },
}


@pytest.mark.parametrize("case", OF_PROGRAMS)
def test_what_programs_leave_changes_nothing(
    case: str, make_checkpoint: Callable[..., Path]
) -> None:
    folder = make_checkpoint()
    edit_config(folder, **OF_PROGRAMS[case])
    assert_same(load_checkpoint(folder).model, tiny_model())


def test_byte_order_mark(make_checkpoint: Callable[..., Path]) -> None:
    path = make_checkpoint() / "config.json"
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert_same(load_checkpoint(path.parent).model, tiny_model())


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"layer_norm_epsilon": "1e-5"}, "gives layer_norm_epsilon as '1e-5', not a number from 0"),
        ({"layer_norm_epsilon": float("nan")}, "layer_norm_epsilon as nan, not a number"),
        ({"layer_norm_epsilon": True}, "layer_norm_epsilon as True, not a number"),
        ({"tie_word_embeddings": "false"}, "tie_word_embeddings as 'false', not true or false"),
        ({"n_inner": "128"}, "n_inner as '128', not a whole number above 0"),
        ({"n_layer": 10**30}, "n_layer as a number of more than 64 bits, not a whole number"),
        ({"activation_function": ["gelu"]}, r"activation_function \['gelu'\] is not one"),
    ],
)
def test_values_that_cannot_be_computed_with(
    fields: dict[str, Any], message: str, make_checkpoint: Callable[..., Path]
) -> None:
    folder = make_checkpoint()
    edit_config(folder, **fields)
    with pytest.raises(CheckpointError, match=message) as caught:
        load_checkpoint(folder)
    assert "\n" not in str(caught.value)


def test_fields_that_are_nested(make_checkpoint: Callable[..., Path]) -> None:
    path = make_checkpoint() / "config.json"
    nested = {"model_type": "gpt2", "text_config": json.loads(path.read_text("utf-8"))}
    path.write_text(json.dumps(nested), "utf-8")
    with pytest.raises(CheckpointError, match="fields in text_config: write those to the file"):
        load_checkpoint(path.parent)


def test_what_is_written_is_sane_for_others(
    make_checkpoint: Callable[..., Path], tmp_path: Path
) -> None:
    folder = make_checkpoint(n_layer=1)
    edit_config(folder, return_dict=False, torchscript=True, output_attentions=True, auto_map={})
    export(folder, tmp_path / "model")
    written = json.loads((tmp_path / "model" / "config.json").read_text("utf-8"))
    assert written["return_dict"] is True
    assert not written["torchscript"]
    assert not written["output_attentions"]
    assert "auto_map" not in written
    assert written["architectures"] == ["GPT2LMHeadModel"]
    assert GPT2Config.from_pretrained(tmp_path / "model").n_embd == 32


def test_generation_values_of_a_configuration(
    make_checkpoint: Callable[..., Path], tmp_path: Path
) -> None:
    """As transformers wrote them before there was a generation_config.json; it saves them not."""
    folder = make_checkpoint(n_layer=1)
    (folder / "generation_config.json").unlink()
    edit_config(folder, temperature=0.7, top_p=0.9, max_length=50, pad_token_id=-1)
    export(folder, tmp_path / "model")
    written = json.loads((tmp_path / "model" / "generation_config.json").read_text("utf-8"))
    assert (written["temperature"], written["max_length"]) == (0.7, 50)
    assert len(pocketgpt.load(tmp_path / "model").generate("the cat").token_ids) > 1


def test_common_names_of_the_sizes(make_checkpoint: Callable[..., Path]) -> None:
    folder = make_checkpoint(n_layer=1, n_positions=48)
    edit_config(
        folder,
        *("n_layer", "n_positions", "n_embd", "n_head"),
        num_hidden_layers=1,
        max_position_embeddings=48,
        hidden_size=32,
        num_attention_heads=4,
    )
    assert_same(load_checkpoint(folder).model, tiny_model(n_layer=1, n_positions=48))


@pytest.mark.parametrize(
    "fields", [{"early_stopping": "x"}, {"watermarking_config": 3}, {"max_new_tokens": -3}]
)
def test_generation_values_that_nobody_can_read(
    fields: dict[str, Any], make_checkpoint: Callable[..., Path], tmp_path: Path
) -> None:
    folder = make_checkpoint(n_layer=1)
    (folder / "generation_config.json").unlink()
    edit_config(folder, **fields)
    with pytest.raises(CheckpointError, match=r"config\.json is wrong: "):
        export(folder, tmp_path / "model")


@pytest.mark.parametrize("dropped", [("model_type",), ("model_type", "architectures")])
def test_configuration_of_2019(
    dropped: tuple[str, ...], make_checkpoint: Callable[..., Path]
) -> None:
    folder = make_checkpoint()
    edit_config(folder, *dropped, n_ctx=64)
    assert_same(load_checkpoint(folder).model, tiny_model())


def test_tokenizer_of_2019_beside_it(
    make_checkpoint: Callable[..., Path], tiny_tokenizer: PreTrainedTokenizerFast
) -> None:
    """vocab.json and merges.txt alone: config.json would have said whose they are."""
    folder = make_checkpoint()
    for name in ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"):
        (folder / name).unlink(missing_ok=True)
    tiny_tokenizer.backend_tokenizer.model.save(str(folder))
    edit_config(folder, "model_type")
    text = "the cat sat on that mat"
    assert load_checkpoint(folder).tokenizer(text)["input_ids"] == tiny_tokenizer(text)["input_ids"]


@pytest.mark.parametrize("fields", [{"afn": "gelu"}, {"dff": 128}, {"n_ctx": None}])
def test_other_models_of_2019_are_refused(
    fields: dict[str, Any], make_checkpoint: Callable[..., Path]
) -> None:
    folder = make_checkpoint()
    dropped = ["model_type", "architectures", *(name for name in fields if fields[name] is None)]
    edit_config(folder, *dropped, **{n: v for n, v in {"n_ctx": 64, **fields}.items() if v})
    with pytest.raises(CheckpointError, match='add "model_type": "gpt2"'):
        load_checkpoint(folder)


@pytest.mark.parametrize("pruned", [{0: [1], 1: [0, 2]}, {1: [3, 1, 0]}, {0: [0, 1, 2]}])
def test_pruned_heads(
    pruned: dict[int, list[int]],
    tmp_path: Path,
    tiny_tokenizer: PreTrainedTokenizerFast,
) -> None:
    """transformers' own pruned model is the reference."""
    model = tiny_model().eval()
    if not hasattr(model, "prune_heads"):
        pytest.skip("this transformers prunes no heads")
    before = logits(model)
    model.prune_heads(pruned)
    assert (logits(model) - before).abs().max() > 1e-3
    model.save_pretrained(tmp_path / "pruned")
    tiny_tokenizer.save_pretrained(tmp_path / "pruned")
    assert_same(load_checkpoint(tmp_path / "pruned").model, model)


@pytest.mark.parametrize("pruned", [{"7": [0]}, {"0": [4]}, {"0": ["x"]}, [[1]], {"0": [1]}])
def test_pruned_heads_that_do_not_fit(pruned: Any, make_checkpoint: Callable[..., Path]) -> None:
    folder = make_checkpoint()
    edit_config(folder, pruned_heads=pruned)
    with pytest.raises(CheckpointError, match="pruned_heads"):
        load_checkpoint(folder)


def save_with_head(kind: type[PreTrainedModel], folder: Path) -> PreTrainedModel:
    torch.manual_seed(3)
    model: PreTrainedModel = kind(tiny_config(pad_token_id=0)).eval()
    model.save_pretrained(folder)
    return model


def test_double_heads_give_their_language_model(
    tmp_path: Path, tiny_tokenizer: PreTrainedTokenizerFast
) -> None:
    save_with_head(GPT2DoubleHeadsModel, tmp_path / "double")
    tiny_tokenizer.save_pretrained(tmp_path / "double")
    manifest = export(tmp_path / "double", tmp_path / "model")
    (remark,) = manifest.remarks
    assert "multiple_choice_head" in remark
    expected = GPT2LMHeadModel.from_pretrained(tmp_path / "double", attn_implementation="eager")
    decoder = pocketgpt.load(tmp_path / "model", "fp32").new_decoder()
    found = torch.from_numpy(decoder.score(IDS).copy())
    torch.testing.assert_close(found, logits(expected.eval())[0], rtol=0, atol=1e-4)


@pytest.mark.parametrize("kind", [GPT2ForTokenClassification, GPT2ForQuestionAnswering])
def test_other_heads_are_refused_by_name(
    kind: type[PreTrainedModel], tmp_path: Path, tiny_tokenizer: PreTrainedTokenizerFast
) -> None:
    folder = tmp_path / "other"
    save_with_head(kind, folder)
    tiny_tokenizer.save_pretrained(folder)
    with pytest.raises(CheckpointError, match=f"is a {kind.__name__}, "):
        load_checkpoint(folder)
    edit_config(folder, "architectures")
    with pytest.raises(CheckpointError, match=r"the head of .*language models"):
        load_checkpoint(folder)


def test_value_head_of_a_reward_is_left_out(make_checkpoint: Callable[..., Path]) -> None:
    """trl saves the language model's names and `v_head.summary` beside them."""
    folder = make_checkpoint()
    tensors = load_file(folder / "model.safetensors")
    tensors |= {"v_head.summary.weight": torch.ones(1, 32), "v_head.summary.bias": torch.ones(1)}
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    loaded = load_checkpoint(folder)
    assert "v_head" in loaded.remarks[0]
    assert_same(loaded.model, tiny_model())
