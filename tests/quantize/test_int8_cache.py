"""Keys and values in 8 bits: the same attention over rounded numbers, whichever way it is fed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from transformers import AttentionInterface, GPT2LMHeadModel
from transformers.models.gpt2.modeling_gpt2 import eager_attention_forward

import pocketgpt
from pocketgpt import OptionError, QuantizationError
from pocketgpt.engine.graph import Graph, open_graph
from pocketgpt.folder.config import read_config
from pocketgpt.folder.manifest import int8_cache_path, read_manifest, variant_path
from pocketgpt.folder.opening import KvCache
from pocketgpt.folder.verification import verify_files
from pocketgpt_export import export
from pocketgpt_quantize import caching, quantize
from pocketgpt_quantize.graph.int8_cache import CacheScales, write_int8_cache_graph
from pocketgpt_quantize.observe.cache_ranges import cache_scales

IDS = np.random.default_rng(5).integers(1, 300, 90).tolist()
# Cut after these: by up to 16 tokens in place, by more beside it, by one.
CUTS = {"one pass": [90], "chunks": [3, 19, 36, 37, 60, 90], "tokens": [*range(1, 91)]}


@pytest.fixture(scope="module")
def scales(exported: Path) -> CacheScales:
    """Scales of the small model's cache."""
    graph = open_graph(exported / variant_path("fp32"), read_config(exported))
    return cache_scales(graph, IDS[:60])


@pytest.fixture(scope="module")
def cached(exported: Path, scales: CacheScales, tmp_path_factory: pytest.TempPathFactory) -> Graph:
    """Its fp32 graph with an 8-bit cache."""
    target = tmp_path_factory.mktemp("cached") / "graph.onnx"
    write_int8_cache_graph(exported / variant_path("fp32"), scales, target)
    folder = exported / "onnx"
    return open_graph(target, read_config(exported), weights_folder=folder, tuned=True)


@pytest.fixture
def reference(exported: Path, scales: CacheScales) -> GPT2LMHeadModel:
    """PyTorch's model, its keys and values rounded as they are made."""

    def rounded(numbers: Tensor, by: np.ndarray) -> Tensor:
        scale = torch.from_numpy(by)[None, :, None]
        return torch.clamp(torch.round(numbers / scale), -128, 127) * scale

    def attention(
        module: torch.nn.Module,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        mask: Tensor,
        **rest: object,
    ) -> tuple[Tensor, Tensor]:
        layer: Any = module.layer_idx
        key, value = rounded(key, scales.keys[layer]), rounded(value, scales.values[layer])
        found: tuple[Tensor, Tensor] = eager_attention_forward(
            module, query, key, value, mask, **rest
        )
        return found

    AttentionInterface.register("rounded", attention)
    model: GPT2LMHeadModel = GPT2LMHeadModel.from_pretrained(
        exported.parent / "checkpoint", attn_implementation="rounded", dtype=torch.float32
    )
    model.eval()
    return model


def fed(graph: Graph, cuts: list[int]) -> np.ndarray:
    """Return the logits after every token of IDS, fed in parts."""
    decoder = graph.decoder()
    parts = zip([0, *cuts], cuts, strict=False)
    return np.concatenate([decoder.score(IDS[begin:end]).copy() for begin, end in parts])


@pytest.mark.parametrize("way", CUTS)
def test_logits_are_those_of_rounded_keys_and_values(
    cached: Graph, reference: GPT2LMHeadModel, way: str
) -> None:
    with torch.no_grad():
        expected = reference(torch.tensor([IDS])).logits[0].numpy()
    found = fed(cached, CUTS[way])
    # A number that lies halfway between two may be rounded to either: then logits move a little.
    assert np.abs(found - expected).max() < 0.02 * np.abs(expected).max()
    assert np.abs(found - expected).mean() < 1e-4 * np.abs(expected).max()


def test_the_cache_holds_what_the_float_cache_does(
    exported: Path, cached: Graph, scales: CacheScales
) -> None:
    plain = open_graph(exported / variant_path("fp32"), read_config(exported))
    decoders = [graph.decoder() for graph in (plain, cached)]
    for decoder in decoders:
        decoder.prefill(IDS)
    assert cached.contract.cache_dtype == np.int8
    assert decoders[1].cache_bytes * 4 == decoders[0].cache_bytes
    (keys, _), (stored, _) = (decoder.read() for decoder in decoders)
    first = stored[0] * scales.keys[0][:, None]  # of the first layer nothing was rounded before
    assert np.abs(first - keys[0]).max() <= 0.51 * scales.keys[0].max()


def test_a_batch_gives_what_each_text_gives_alone(cached: Graph) -> None:
    lengths = (40, 7, 23)
    together = cached.decoder(3)
    prompts = [IDS[:length] for length in lengths]
    filled = together.fill(prompts).copy()
    stepped = together.step([5, 6, 7]).copy()
    for row, prompt in enumerate(prompts):
        alone = cached.decoder()
        np.testing.assert_allclose(alone.prefill(prompt)[0], filled[row], atol=1e-4)
        np.testing.assert_allclose(alone.step(5 + row)[0], stepped[row], atol=1e-4)


@pytest.fixture(scope="module")
def folder(exported: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small model with an int8 variant."""
    import shutil

    made = Path(shutil.copytree(exported, tmp_path_factory.mktemp("int8") / "model"))
    quantize(made, ["int8", "fp16"], accept_loss=True)
    return made


def test_quantize_measures_the_cache_of_every_variant_that_can_have_one(folder: Path) -> None:
    variants = read_manifest(folder).variants
    assert variants["fp16"].int8_cache is None
    for name in ("fp32", "int8"):
        cache = variants[name].int8_cache
        assert cache is not None
        assert cache.graph.path == int8_cache_path(name)
        added = cache.quality["perplexity"] / variants[name].quality["perplexity"] - 1
        assert abs(added) < caching.MAX_LOSS
        assert cache.tolerance is not None
    assert variants["fp32"].int8_cache.quality["kl_mean"] > 0  # type: ignore[union-attr]
    assert not verify_files(folder).failures


@pytest.mark.parametrize(
    ("variant", "asked", "expected"),
    [
        ("int8", "auto", "int8"),
        ("int8", "float", "float32"),
        ("fp32", "auto", "float32"),
        ("fp32", "int8", "int8"),
        ("fp16", "auto", "float16"),
    ],
)
def test_load_opens_the_cache_asked_for(
    folder: Path, variant: str, asked: KvCache, expected: str
) -> None:
    assert pocketgpt.load(folder, variant, kv_cache=asked).kv_cache == expected


def test_a_text_is_the_same_alone_in_a_batch_in_a_session_and_restored(
    folder: Path, tmp_path: Path
) -> None:
    model = pocketgpt.load(folder, "fp32", kv_cache="int8")
    prompts = ["the king said", "a small owl found the old stone and sang. " * 2]
    alone = [model.generate(prompt, max_new_tokens=30).token_ids for prompt in prompts]
    assert [one.token_ids for one in model.generate(prompts, max_new_tokens=30)] == alone
    session = model.session()
    session.append(prompts[1])
    session.save(tmp_path / "session")
    again = model.restore(tmp_path / "session")
    assert again.generate(max_new_tokens=30).token_ids == alone[1]
    with pytest.raises(pocketgpt.SessionError, match="another model or variant"):
        pocketgpt.load(folder, "fp32").restore(tmp_path / "session")


def test_a_cache_that_costs_too_much_is_left_out(
    model_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(caching, "MAX_LOSS", -1.0)
    quantize(model_folder, ["int8"], accept_loss=True)
    assert read_manifest(model_folder).variant("int8").int8_cache is None
    assert not (model_folder / int8_cache_path("int8")).exists()
    with pytest.raises(OptionError, match="has no graph of int8 with an 8-bit cache"):
        pocketgpt.load(model_folder, "int8", kv_cache="int8")
    assert pocketgpt.load(model_folder, "int8").kv_cache == "float32"


def test_refusals_are_one_line(
    folder: Path, exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(OptionError, match="kv_cache should be one of auto, int8, float"):
        pocketgpt.load(folder, kv_cache="int4")  # type: ignore[arg-type]
    with pytest.raises(OptionError, match="adapters: merge"):
        pocketgpt.load(folder, "int8", kv_cache="int8", adapters={"one": tmp_path})
    export(exported.parent / "checkpoint", tmp_path / "portable", graph="portable")
    with pytest.raises(OptionError, match="for the fused graph"):
        pocketgpt.load(tmp_path / "portable", kv_cache="int8")
    monkeypatch.setattr("onnxruntime.__version__", "1.31.2")
    with pytest.raises(OptionError, match=r"takes ONNX Runtime 1\.32 or newer, and 1\.31\.2"):
        pocketgpt.load(folder, "int8", kv_cache="int8")
    assert pocketgpt.load(folder, "int8").kv_cache == "float32"


def test_a_graph_of_another_depth_is_refused(exported: Path, tmp_path: Path) -> None:
    one_layer = CacheScales(*[np.ones((1, 2, 32), np.float32)] * 2)
    with pytest.raises(QuantizationError, match="has 2 attentions"):
        write_int8_cache_graph(exported / variant_path("fp32"), one_layer, tmp_path / "graph.onnx")
