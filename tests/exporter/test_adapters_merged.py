"""LoRA adapters on their base: the exported graph is what peft runs, unmerged."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoTokenizer, GPT2LMHeadModel, PreTrainedModel

import pocketgpt
from pocketgpt import CheckpointError
from pocketgpt_export import export, verify
from pocketgpt_export.source.checkpoint import load_checkpoint

peft = pytest.importorskip("peft")
pytestmark = [
    pytest.mark.filterwarnings("ignore:.*gradient_checkpointing:FutureWarning"),  # peft's
    pytest.mark.filterwarnings("ignore:.*tied:UserWarning"),
    pytest.mark.filterwarnings("ignore:.*tie_word_embeddings:UserWarning"),
    pytest.mark.filterwarnings("ignore:.*embedding layer:UserWarning"),
    pytest.mark.filterwarnings("ignore:.*fan_in_fan_out:UserWarning"),
]
IDS = [5, 17, 271, 4, 260, 5, 9]


def base_model(folder: Path) -> GPT2LMHeadModel:
    model: GPT2LMHeadModel = GPT2LMHeadModel.from_pretrained(folder, attn_implementation="eager")
    return model


def train(model: PreTrainedModel, folder: Path, **settings: Any) -> None:
    """Save an adapter whose every trained number was moved."""
    fields = {"r": 4, "target_modules": ["c_attn"], "fan_in_fan_out": True, **settings}
    fields.setdefault("task_type", "CAUSAL_LM")
    adapted = peft.get_peft_model(model, peft.LoraConfig(**fields))
    torch.manual_seed(5)
    with torch.no_grad():
        for parameter in adapted.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn_like(parameter), alpha=0.1)
    adapted.save_pretrained(folder)


def as_peft_runs_it(model: GPT2LMHeadModel, folder: Path) -> torch.Tensor:
    adapted = peft.PeftModel.from_pretrained(model, folder).eval()
    with torch.inference_mode():
        found: torch.Tensor = adapted(torch.tensor([IDS])).logits[0]
    return found


def exported_logits(folder: Path) -> torch.Tensor:
    return torch.from_numpy(pocketgpt.load(folder, "fp32").new_decoder().score(IDS).copy())


TIED: dict[str, dict[str, Any]] = {
    "the embedding": {"target_modules": ["wte"]},
    "the head": {"target_modules": ["lm_head"], "fan_in_fan_out": False},
    "both": {"target_modules": ["wte", "lm_head"], "fan_in_fan_out": False},
    "a head of its own": {"modules_to_save": ["lm_head"]},
    "an embedding of its own": {"modules_to_save": ["wte"]},
    "a few tokens": {"trainable_token_indices": {"wte": [5, 271]}},
    "a few tokens of the head": {"trainable_token_indices": {"lm_head": [5, 271]}},
    "a few tokens of each": {"trainable_token_indices": {"wte": [5, 9], "lm_head": [5, 271]}},
}


@pytest.mark.parametrize("case", TIED)
def test_one_of_two_tied_tensors(
    case: str, make_checkpoint: Callable[..., Path], tmp_path: Path
) -> None:
    """A LoRA at work on one of them leaves the other; merged as they are it would change both."""
    base = make_checkpoint("base")
    train(base_model(base), tmp_path / "adapter", **TIED[case])
    expected = as_peft_runs_it(base_model(base), tmp_path / "adapter")
    export(tmp_path / "adapter", tmp_path / "model", base=base)
    torch.testing.assert_close(exported_logits(tmp_path / "model"), expected, rtol=0, atol=1e-4)
    config = json.loads((tmp_path / "model" / "config.json").read_text("utf-8"))
    assert config["tie_word_embeddings"] is (case == "a few tokens")
    assert verify(tmp_path / "model").failures == ()


def compiled(model: GPT2LMHeadModel) -> Any:
    return torch.compile(model, backend="eager")


def in_a_field(model: GPT2LMHeadModel) -> Any:
    wrapper = torch.nn.Module()
    wrapper.model = model
    wrapper.forward = model.forward
    return wrapper


@pytest.mark.parametrize("wrap", [compiled, in_a_field, torch.nn.DataParallel])
def test_adapter_of_a_wrapped_model(
    wrap: Callable[[GPT2LMHeadModel], Any], make_checkpoint: Callable[..., Path], tmp_path: Path
) -> None:
    """Its names are the wrapper's, where peft itself finds none of them in a plain base."""
    base = make_checkpoint("base")
    lora = peft.LoraConfig(r=4, target_modules=["c_attn", "lm_head"], fan_in_fan_out=True)
    adapted = peft.get_peft_model(wrap(base_model(base)), lora).eval()
    torch.manual_seed(5)
    for name, parameter in adapted.named_parameters():
        if "lora_B" in name:
            parameter.data.normal_(0, 0.1)
    adapted.save_pretrained(tmp_path / "adapter")
    with torch.inference_mode():
        expected = adapted(torch.tensor([IDS])).logits
        loaded = load_checkpoint(tmp_path / "adapter", base=base)
        torch.testing.assert_close(loaded.model(torch.tensor([IDS])).logits, expected)
        found = loaded.merged()(torch.tensor([IDS])).logits
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-4)


def test_adapter_of_the_body_alone(make_checkpoint: Callable[..., Path], tmp_path: Path) -> None:
    base = make_checkpoint("base")
    train(base_model(base).transformer, tmp_path / "adapter", task_type="FEATURE_EXTRACTION")
    body = peft.PeftModel.from_pretrained(base_model(base).transformer, tmp_path / "adapter").eval()
    found = load_checkpoint(tmp_path / "adapter", base=base).merged()
    with torch.inference_mode():
        expected = found.lm_head(body(torch.tensor([IDS])).last_hidden_state)
        torch.testing.assert_close(found(torch.tensor([IDS])).logits, expected, rtol=0, atol=1e-4)


def test_a_whole_module_that_is_missing(
    make_checkpoint: Callable[..., Path], tmp_path: Path
) -> None:
    base, folder = make_checkpoint("base", n_layer=1), tmp_path / "adapter"
    train(base_model(base), folder, modules_to_save=["ln_f"])
    tensors = load_file(folder / "adapter_model.safetensors")
    kept = {name: tensor for name, tensor in tensors.items() if "ln_f" not in name}
    save_file(kept, folder / "adapter_model.safetensors", {"format": "pt"})
    with pytest.raises(CheckpointError, match=r"it lacks '.*ln_f\.weight', which its adapter_conf"):
        load_checkpoint(folder, base=base)


@pytest.mark.parametrize("modules", [None, ["wte", "lm_head"], ["wte"]])
def test_tokens_that_the_adapter_brings(
    modules: list[str] | None, make_checkpoint: Callable[..., Path], tmp_path: Path
) -> None:
    """Its tokenizer, chat template, embedding, generation_config.json and token ids."""
    base, folder = make_checkpoint("base", n_layer=1, vocab_size=281), tmp_path / "adapter"
    tokenizer = AutoTokenizer.from_pretrained(base)
    assert len(tokenizer) == 281
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|q|>", "<|a|>"]})
    tokenizer.chat_template = "{% for m in messages %}<|q|>{{ m.content }}<|a|>{% endfor %}"
    model = base_model(base)
    model.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    train(model, folder, modules_to_save=modules)
    tokenizer.save_pretrained(folder)
    config = json.loads((base / "config.json").read_text("utf-8"))
    resized = {**config, "vocab_size": len(tokenizer), "eos_token_id": 282}
    (folder / "config.json").write_text(json.dumps(resized), "utf-8")
    (folder / "generation_config.json").write_text('{"eos_token_id": 282}', "utf-8")
    manifest = export(folder, tmp_path / "model", base=base)
    assert manifest.remarks == ()

    again = base_model(base)
    again.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    torch.testing.assert_close(
        exported_logits(tmp_path / "model"), as_peft_runs_it(again, folder), rtol=0, atol=1e-4
    )
    found = pocketgpt.load(tmp_path / "model")
    text = "<|q|>the cat<|a|>"
    assert found.tokenizer.encode(text) == tokenizer(text)["input_ids"]
    assert found.resolve({}).eos_token_id == 282
    written = [path.read_text("utf-8") for path in (tmp_path / "model").glob("*template*")]
    written.append((tmp_path / "model" / "tokenizer_config.json").read_text("utf-8"))
    assert any("m.content" in text for text in written)
    fields = json.loads((tmp_path / "model" / "config.json").read_text("utf-8"))
    assert (fields["vocab_size"], fields["eos_token_id"]) == (283, 282)


def test_what_comes_from_the_base_is_said(
    make_checkpoint: Callable[..., Path], tmp_path: Path
) -> None:
    base = make_checkpoint("base", n_layer=1)
    (base / "generation_config.json").write_text('{"eos_token_id": 0, "top_k": 7}', "utf-8")
    train(base_model(base), tmp_path / "adapter")
    (tmp_path / "adapter" / "chat_template.jinja").write_text("{{ messages }}", "utf-8")
    manifest = export(tmp_path / "adapter", tmp_path / "model", base=base)
    (remark,) = manifest.remarks
    assert "from the base" in remark
    assert remark.endswith(": tokenizer.json, generation_config.json")
    assert pocketgpt.load(tmp_path / "model").resolve({}).top_k == 7
    assert (tmp_path / "model" / "chat_template.jinja").read_text("utf-8") == "{{ messages }}"


def test_a_whole_model_that_has_an_adapter_beside(
    make_checkpoint: Callable[..., Path], tmp_path: Path
) -> None:
    """A base given says that the adapter is meant; without one the model is."""
    base, folder = make_checkpoint("base"), make_checkpoint("both")
    train(base_model(base), folder)
    whole = load_checkpoint(folder)
    assert whole.adapter is None
    assert "--base merges the adapter" in whole.remarks[0]
    loaded = load_checkpoint(folder, base=base)
    with torch.inference_mode():
        found = loaded.merged()(torch.tensor([IDS])).logits[0]
    torch.testing.assert_close(found, as_peft_runs_it(base_model(base), folder), rtol=0, atol=1e-4)


def test_new_rows_that_the_adapter_does_not_hold(
    make_checkpoint: Callable[..., Path], tmp_path: Path
) -> None:
    base, folder = make_checkpoint("base", n_layer=1), tmp_path / "adapter"
    model = base_model(base)
    model.resize_token_embeddings(330, mean_resizing=False)
    train(model, folder, target_modules=["wte"])
    tensors = load_file(folder / "adapter_model.safetensors")
    halves = {name: tensor for name, tensor in tensors.items() if "lora_" in name}
    save_file(halves, folder / "adapter_model.safetensors", {"format": "pt"})
    with pytest.raises(CheckpointError, match=r"embedding of 330 rows.*save_embedding_layers=True"):
        load_checkpoint(folder, base=base)


def test_adapter_of_another_model(make_checkpoint: Callable[..., Path], tmp_path: Path) -> None:
    """More layers than the base has: peft alone would leave them out and say nothing."""
    base, larger = make_checkpoint("base", n_layer=1), make_checkpoint("larger", n_layer=3)
    train(base_model(larger), tmp_path / "adapter")
    with pytest.raises(CheckpointError, match=r"h\.1\..*which the base has no place for"):
        load_checkpoint(tmp_path / "adapter", base=base)
    (tmp_path / "adapter" / "config.json").write_text('{"n_layer": 3}', "utf-8")
    with pytest.raises(CheckpointError, match=r"config\.json gives n_layer as 3"):
        load_checkpoint(tmp_path / "adapter", base=base)


def test_adapter_without_weights(make_checkpoint: Callable[..., Path], tmp_path: Path) -> None:
    base = make_checkpoint("base", n_layer=1)
    train(base_model(base), tmp_path / "adapter")
    (tmp_path / "adapter" / "adapter_model.safetensors").unlink()
    with pytest.raises(
        CheckpointError, match=r"has no weights: none of adapter_model\.safetensors"
    ):
        load_checkpoint(tmp_path / "adapter", base=base)


def test_places_for_adapters_beside_a_merged_one(
    make_checkpoint: Callable[..., Path], tmp_path: Path
) -> None:
    base = make_checkpoint("base", n_layer=1)
    train(base_model(base), tmp_path / "adapter", target_modules=["wte", "c_fc"])
    manifest = export(tmp_path / "adapter", tmp_path / "model", base=base, adapters=True)
    assert manifest.proof["adapter"] < 1e-4
    assert verify(tmp_path / "model").failures == ()
    expected = as_peft_runs_it(base_model(base), tmp_path / "adapter").numpy()
    np.testing.assert_allclose(exported_logits(tmp_path / "model"), expected, rtol=0, atol=1e-4)
