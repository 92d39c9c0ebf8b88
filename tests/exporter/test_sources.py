"""Where a checkpoint may come from: the hub's cache, nanoGPT, LoRA adapters; what is refused."""

from __future__ import annotations

import json
import pickle
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import GPT2LMHeadModel, PreTrainedTokenizerFast

from pocketgpt import CheckpointError, MissingExtraError
from pocketgpt_export import export, verify
from pocketgpt_export.source.checkpoint import load_checkpoint

COMMITS = ("1" * 40, "2" * 40)


def logits(model: nn.Module, ids: list[int]) -> Tensor:
    with torch.inference_mode():
        found: Any = model(torch.tensor([ids]))
    raw: Tensor = found if isinstance(found, Tensor) else found.logits
    return raw


@pytest.fixture
def hub_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of the hub's, without a network."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    return tmp_path / "hub"


def put_into_cache(cache: Path, name: str, checkpoint: Path, commit: str, ref: str) -> None:
    """Lay a checkpoint out as huggingface_hub does: blobs, links to them by commit, refs."""
    root = cache / f"models--{name.replace('/', '--')}"
    snapshot = root / "snapshots" / commit
    for folder in (root / "blobs", root / "refs", snapshot):
        folder.mkdir(parents=True, exist_ok=True)
    (root / "refs" / ref).write_text(commit, "ascii")
    for file in checkpoint.iterdir():
        blob = root / "blobs" / f"{commit}-{file.name}"
        shutil.copyfile(file, blob)
        (snapshot / file.name).symlink_to(Path("../../blobs") / blob.name)


def test_hub_cache(hub_cache: Path, make_checkpoint: Callable[..., Path], tmp_path: Path) -> None:
    old, new = make_checkpoint("old", n_positions=32), make_checkpoint("new", n_positions=48)
    put_into_cache(hub_cache, "someone/tiny", old, COMMITS[0], "v1")
    put_into_cache(hub_cache, "someone/tiny", new, COMMITS[1], "main")
    assert load_checkpoint("someone/tiny").model.config.n_positions == 48
    assert load_checkpoint("someone/tiny", "v1").source.revision == COMMITS[0]
    assert load_checkpoint("someone/tiny", COMMITS[0]).model.config.n_positions == 32
    with pytest.raises(CheckpointError, match=r"someone/tiny at revision v2 .*cache"):
        load_checkpoint("someone/tiny", "v2")
    with pytest.raises(CheckpointError, match="someone/other is neither a folder"):
        load_checkpoint("someone/other")
    manifest = export("someone/tiny", tmp_path / "exported", revision="v1")
    assert (manifest.source, manifest.revision) == ("someone/tiny", COMMITS[0])
    assert verify(tmp_path / "exported").proof


def test_revision_of_a_folder(make_checkpoint: Callable[..., Path]) -> None:
    with pytest.raises(CheckpointError, match="has no revision main"):
        load_checkpoint(make_checkpoint(), "main")


class NanoBlock(nn.Module):
    """https://github.com/karpathy/nanoGPT/blob/master/model.py, without dropout."""

    def __init__(self, width: int, heads: int, bias: bool) -> None:
        super().__init__()
        self.heads = heads
        self.ln_1, self.ln_2 = (nn.LayerNorm(width, bias=bias) for _ in range(2))
        self.attn = nn.ModuleDict(
            {
                "c_attn": nn.Linear(width, 3 * width, bias=bias),
                "c_proj": nn.Linear(width, width, bias=bias),
            }
        )
        self.mlp = nn.ModuleDict(
            {
                "c_fc": nn.Linear(width, 4 * width, bias=bias),
                "c_proj": nn.Linear(4 * width, width, bias=bias),
            }
        )

    def forward(self, x: Tensor) -> Tensor:
        batch, tokens, width = x.shape
        split = self.attn["c_attn"](self.ln_1(x)).split(width, dim=2)
        q, k, v = (part.view(batch, tokens, self.heads, -1).transpose(1, 2) for part in split)
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.attn["c_proj"](y.transpose(1, 2).reshape(batch, tokens, width))
        projected: Tensor = self.mlp["c_proj"](F.gelu(self.mlp["c_fc"](self.ln_2(x))))
        return x + projected


class NanoGPT(nn.Module):
    """The same file's GPT."""

    def __init__(self, sizes: dict[str, Any]) -> None:
        super().__init__()
        width = sizes["n_embd"]
        table = nn.Embedding(sizes["vocab_size"], width)
        blocks = [NanoBlock(width, sizes["n_head"], sizes["bias"]) for _ in range(sizes["n_layer"])]
        self.transformer = nn.ModuleDict(
            {
                "wte": table,
                "wpe": nn.Embedding(sizes["block_size"], width),
                "h": nn.ModuleList(blocks),
                "ln_f": nn.LayerNorm(width, bias=sizes["bias"]),
            }
        )
        self.lm_head = nn.Linear(width, sizes["vocab_size"], bias=False)
        self.lm_head.weight = table.weight

    def forward(self, ids: Tensor) -> Tensor:
        parts = self.transformer
        x = parts["wte"](ids) + parts["wpe"](torch.arange(ids.shape[1]))
        for block in cast(nn.ModuleList, parts["h"]):
            x = block(x)
        found: Tensor = self.lm_head(parts["ln_f"](x))
        return found


def save_nanogpt(path: Path, *, bias: bool, prefix: str = "") -> NanoGPT:
    """Save a random nanoGPT checkpoint as its train.py does, its vocabulary padded."""
    sizes = {
        "n_layer": 2,
        "n_head": 4,
        "n_embd": 32,
        "block_size": 64,
        "bias": bias,
        "vocab_size": 384,
        "dropout": 0.0,
    }
    torch.manual_seed(1)
    model = NanoGPT(sizes)
    for parameter in model.parameters():
        parameter.data.add_(torch.randn_like(parameter), alpha=0.1)
    state = {prefix + name: tensor for name, tensor in model.state_dict().items()}
    optimizer = torch.optim.AdamW(model.parameters())
    content = {
        "model": state,
        "optimizer": optimizer.state_dict(),
        "model_args": sizes,
        "iter_num": 5,
        "best_val_loss": torch.tensor(3.5),
        "config": {"dataset": "shakespeare", "compile": True},
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(content, path)
    return model.eval()


@pytest.mark.parametrize(("bias", "prefix"), [(True, ""), (False, "_orig_mod.")])
def test_nanogpt(
    bias: bool, prefix: str, tmp_path: Path, tiny_tokenizer: PreTrainedTokenizerFast
) -> None:
    reference = save_nanogpt(tmp_path / "out" / "ckpt.pt", bias=bias, prefix=prefix)
    tiny_tokenizer.save_pretrained(tmp_path / "tokenizer")
    ids = list(range(3, 60))
    for source in (tmp_path / "out" / "ckpt.pt", tmp_path / "out"):
        loaded = load_checkpoint(source, tokenizer=tmp_path / "tokenizer")
        torch.testing.assert_close(
            logits(loaded.model, ids), logits(reference, ids), rtol=0, atol=1e-5
        )


def test_nanogpt_export(
    hub_cache: Path, tmp_path: Path, tiny_tokenizer: PreTrainedTokenizerFast
) -> None:
    file = tmp_path / "ckpt.pt"
    save_nanogpt(file, bias=False)
    with pytest.raises(CheckpointError, match=r"holds no tokenizer.*--tokenizer FOLDER"):
        export(file, tmp_path / "exported")
    tiny_tokenizer.save_pretrained(tmp_path / "tokenizer")
    put_into_cache(hub_cache, "openai-community/gpt2", tmp_path / "tokenizer", COMMITS[0], "main")
    manifest = export(file, tmp_path / "exported")
    assert manifest.source == str(file)
    assert verify(tmp_path / "exported").failures == ()


def test_not_nanogpt(tmp_path: Path) -> None:
    torch.save({"state": torch.zeros(3)}, tmp_path / "other.pt")
    with pytest.raises(CheckpointError, match="is not a nanoGPT checkpoint"):
        load_checkpoint(tmp_path / "other.pt")


@pytest.fixture
def adapter(tmp_path: Path) -> Path:
    """A LoRA adapter's folder with its description alone."""
    folder = tmp_path / "adapter"
    folder.mkdir()
    fields = {"peft_type": "LORA", "base_model_name_or_path": "someone/tiny", "r": 4}
    (folder / "adapter_config.json").write_text(json.dumps(fields), "utf-8")
    return folder


def test_adapter_without_its_base(adapter: Path) -> None:
    with pytest.raises(CheckpointError, match=r"without its base: add --base.*someone/tiny"):
        load_checkpoint(adapter)


def test_adapter_of_another_kind(adapter: Path) -> None:
    (adapter / "adapter_config.json").write_text('{"peft_type": "PREFIX_TUNING"}', "utf-8")
    with pytest.raises(CheckpointError, match="PREFIX_TUNING"):
        load_checkpoint(adapter, base="someone/tiny")


def test_adapter_without_peft(
    adapter: Path, make_checkpoint: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(MissingExtraError, match=r"pocketgpt\[lora\]"):
        load_checkpoint(adapter, base=make_checkpoint())


def test_base_of_a_whole_checkpoint(make_checkpoint: Callable[..., Path]) -> None:
    checkpoint = make_checkpoint()
    with pytest.raises(CheckpointError, match="leave out --base"):
        load_checkpoint(checkpoint, base=checkpoint)


@pytest.mark.filterwarnings("ignore:.*gradient_checkpointing:FutureWarning")  # peft's
def test_adapter_is_merged(make_checkpoint: Callable[..., Path], tmp_path: Path) -> None:
    peft = pytest.importorskip("peft")
    base = make_checkpoint()
    model = GPT2LMHeadModel.from_pretrained(base, attn_implementation="eager")
    config = peft.LoraConfig(
        r=4, target_modules=["c_attn", "c_proj", "c_fc"], fan_in_fan_out=True, task_type="CAUSAL_LM"
    )
    adapted = peft.get_peft_model(model, config).eval()
    ids = list(range(3, 60))
    before = logits(adapted, ids)
    for name, parameter in adapted.named_parameters():
        if "lora_B" in name:
            nn.init.normal_(parameter, std=0.3)
    adapted.save_pretrained(tmp_path / "adapter")
    expected = logits(adapted, ids)
    assert (expected - before).abs().max() > 0.1
    loaded = load_checkpoint(tmp_path / "adapter", base=base)
    torch.testing.assert_close(logits(loaded.model, ids), expected, rtol=0, atol=1e-4)
    assert loaded.base is not None
    assert loaded.base.name == str(base)


@pytest.mark.parametrize(
    ("fields", "match"),
    [
        ({"model_type": "llama"}, "of type 'llama'"),
        ({"add_cross_attention": True}, "cross-attention.*Optimum"),
        ({"quantization_config": {"bits": 4}}, "quantized already"),
        ({"activation_function": "swoosh"}, "'swoosh' is not one that this transformers has"),
        ({"n_head": 5}, "width of 32, which 5 heads cannot share"),
        ({"tie_word_embeddings": False}, "1 missing keys, the first lm_head.weight"),
    ],
)
def test_refused_by_name(
    fields: dict[str, Any], match: str, make_checkpoint: Callable[..., Path]
) -> None:
    checkpoint = make_checkpoint()
    config = json.loads((checkpoint / "config.json").read_text("utf-8"))
    (checkpoint / "config.json").write_text(json.dumps(config | fields), "utf-8")
    with pytest.raises(CheckpointError, match=match):
        load_checkpoint(checkpoint)


def test_tokenizer_beyond_the_embedding(make_checkpoint: Callable[..., Path]) -> None:
    with pytest.raises(CheckpointError, match=r"and the embedding has 200 rows"):
        load_checkpoint(make_checkpoint(vocab_size=200))


def test_tokenizer_of_another_kind(make_checkpoint: Callable[..., Path]) -> None:
    checkpoint = make_checkpoint()
    fields = json.loads((checkpoint / "tokenizer.json").read_text("utf-8"))
    fields["decoder"] = {"type": "BPEDecoder", "suffix": "</w>"}
    (checkpoint / "tokenizer.json").write_text(json.dumps(fields), "utf-8")
    with pytest.raises(CheckpointError, match="byte-level BPE"):
        load_checkpoint(checkpoint)


class Trap:
    """Pickles as a call of `open` for writing."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[str, str]]:
        return open, (str(self.path), "w")


def test_pickled_code_is_never_run(make_checkpoint: Callable[..., Path], tmp_path: Path) -> None:
    checkpoint = make_checkpoint()
    (checkpoint / "model.safetensors").unlink()
    torch.save({"wte.weight": Trap(tmp_path / "sprung")}, checkpoint / "pytorch_model.bin")
    with pytest.raises(CheckpointError, match="runs no code from a checkpoint"):
        load_checkpoint(checkpoint)
    (checkpoint / "pytorch_model.bin").write_bytes(pickle.dumps(Trap(tmp_path / "sprung")))
    with pytest.raises(CheckpointError):
        load_checkpoint(checkpoint)
    assert not (tmp_path / "sprung").exists()
