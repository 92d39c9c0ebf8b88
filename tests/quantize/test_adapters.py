"""LoRA adapters at run time: what the graphs with places for them give, against peft."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import numpy as np
import onnx_ir as ir
import onnxruntime as ort
import pytest
import torch
from numpy.typing import NDArray
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import GPT2LMHeadModel

import pocketgpt
from pocketgpt import AdapterError, ModelFolderError, OptionError, QuantizationError
from pocketgpt.engine.adapters import Adapter, read_adapter
from pocketgpt.folder.config import ModelConfig, read_config
from pocketgpt.folder.manifest import adapter_graph_path, read_manifest, variant_path
from pocketgpt.folder.verification import verify_files
from pocketgpt_export import export
from pocketgpt_quantize import quantize
from pocketgpt_quantize.graph.adapters import places_of, write_adapter_graph
from pocketgpt_quantize.graph.fold import Fold, fold
from pocketgpt_quantize.graph.rewrite import load_graph, save

from ..runtime.test_load import flip_a_bit

IDS = np.random.default_rng(3).integers(0, 300, 24)
PROMPT = 16  # of them, in one pass; the others follow one at a time
VARIANTS = ("int8", "q4", "q8", "fp16", "q4f16")
EVERYWHERE: dict[str, Any] = {"target_modules": ["c_attn", "c_proj", "c_fc"]}
KINDS: dict[str, dict[str, Any]] = {
    "attention alone": {"target_modules": ["c_attn"]},
    "every product": EVERYWHERE,
    "rank-stabilized": {**EVERYWHERE, "use_rslora": True, "r": 12},
    "patterns": {
        **EVERYWHERE,
        "rank_pattern": {"c_fc": 3, "h.1.attn.c_attn": 9},
        "alpha_pattern": {"mlp.c_proj": 5},
    },
    "one layer": {**EVERYWHERE, "layers_to_transform": [1]},
    "by an expression": {"target_modules": r".*\.mlp\.c_(fc|proj)"},
}

Logits = NDArray[np.float32]


@pytest.fixture(scope="module")
def folder(tiny_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model folder for adapters, with variants."""
    made = tmp_path_factory.mktemp("adapters") / "model"
    export(tiny_checkpoint, made, adapters=True)
    quantize(made, VARIANTS, accept_loss=True)  # random weights round badly
    return made


@pytest.fixture
def make_adapter(tiny_checkpoint: Path, tmp_path: Path) -> Callable[..., Path]:
    """Save an adapter of random numbers for the tiny checkpoint; changes go to its LoraConfig."""

    def make(**changes: Any) -> Path:
        torch.manual_seed(5)
        config = LoraConfig(
            **{"r": 4, "lora_alpha": 8, "fan_in_fan_out": True, "task_type": "CAUSAL_LM", **changes}
        )
        model = get_peft_model(GPT2LMHeadModel.from_pretrained(tiny_checkpoint), config)
        for name, parameter in model.named_parameters():
            if ".lora_B." in name:  # which starts at 0
                parameter.data = 0.2 * torch.randn_like(parameter)
        model.save_pretrained(str(tmp_path / "adapter"))
        return tmp_path / "adapter"

    return make


@pytest.fixture(scope="module")
def base_logits(tiny_reference: GPT2LMHeadModel) -> Logits:
    return torch_logits(tiny_reference)


def torch_logits(model: torch.nn.Module) -> Logits:
    with torch.inference_mode():
        return cast(Logits, model(torch.from_numpy(IDS)[None]).logits[0].numpy())


def peft_logits(checkpoint: Path, adapter: Path) -> Logits:
    base = GPT2LMHeadModel.from_pretrained(checkpoint, attn_implementation="eager")
    return torch_logits(PeftModel.from_pretrained(base, str(adapter)).eval())


def open_graph(path: Path) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.log_severity_level = 3
    return ort.InferenceSession(path, options)


def graph_logits(
    session: ort.InferenceSession, config: ModelConfig, adapter: Adapter | None = None
) -> Logits:
    """Run `IDS`, a prompt and then token by token, all bound in place; return every logit."""
    types = {i.name: i.type for i in session.get_inputs()}
    half = types["past_key_values.0.key"] == "tensor(float16)"
    shape = (1, config.n_head, config.n_positions, config.head_dim)
    names = [f"{i}.{side}" for i in range(config.n_layer) for side in ("key", "value")]
    caches = {name: np.zeros(shape, np.float16 if half else np.float32) for name in names}
    keep_all = ort.OrtValue.ortvalue_from_numpy(np.array(0, np.int64))
    logits = []
    for start, end in [(0, PROMPT), *((i, i + 1) for i in range(PROMPT, len(IDS)))]:
        binding = session.io_binding()
        # The cache is longer than the text: where the mask ends says how much of it counts.
        mask = (np.arange(config.n_positions if start else end) < end)[None].astype(np.int64)
        binding.bind_cpu_input("input_ids", IDS[None, start:end])
        binding.bind_cpu_input("position_ids", np.arange(start, end)[None])
        binding.bind_cpu_input("attention_mask", mask)
        binding.bind_ortvalue_input("num_logits_to_keep", keep_all)
        for name, cache in caches.items():
            binding.bind_cpu_input(f"past_key_values.{name}", cache)
            present = (f"present.{name}", "cpu", 0, cache.dtype, cache.shape, cache.ctypes.data)
            binding.bind_output(*present)
        binding.bind_output("logits")
        if adapter is not None:
            adapter.bind(binding)
        session.run_with_iobinding(binding)
        logits.append(binding.get_outputs()[-1].numpy()[0])
    return np.concatenate(logits)


@pytest.mark.parametrize("kind", KINDS)
def test_fp32_with_an_adapter_is_peft(
    kind: str,
    folder: Path,
    tiny_checkpoint: Path,
    base_logits: Logits,
    make_adapter: Callable[..., Path],
) -> None:
    adapter = make_adapter(**KINDS[kind])
    expected = peft_logits(tiny_checkpoint, adapter)
    assert np.abs(expected - base_logits).max() > 1  # else nothing is shown
    session = open_graph(folder / adapter_graph_path("fp32"))
    found = graph_logits(session, read_config(folder), read_adapter(adapter, session))
    np.testing.assert_allclose(found, expected, atol=1e-4)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_adapters_of_other_precisions(
    dtype: torch.dtype, folder: Path, tiny_checkpoint: Path, make_adapter: Callable[..., Path]
) -> None:
    adapter = make_adapter(**EVERYWHERE)
    weights = adapter / "adapter_model.safetensors"
    save_file({name: tensor.to(dtype) for name, tensor in load_file(weights).items()}, weights)
    session = open_graph(folder / adapter_graph_path("fp32"))
    found = graph_logits(session, read_config(folder), read_adapter(adapter, session))
    np.testing.assert_allclose(found, peft_logits(tiny_checkpoint, adapter), atol=1e-4)


@pytest.mark.parametrize("variant", ["fp32", *VARIANTS])
def test_without_an_adapter_nothing_is_added(variant: str, folder: Path) -> None:
    config = read_config(folder)
    plain = graph_logits(open_graph(folder / variant_path(variant)), config)
    found = graph_logits(open_graph(folder / adapter_graph_path(variant)), config)
    np.testing.assert_array_equal(found, plain)


@pytest.mark.parametrize("variant", VARIANTS)
def test_variants_take_the_same_adapter(
    variant: str,
    folder: Path,
    tiny_checkpoint: Path,
    base_logits: Logits,
    make_adapter: Callable[..., Path],
) -> None:
    """With the adapter a variant is as near to peft as it is to the model without."""
    adapter = make_adapter(**EVERYWHERE)
    expected, config = peft_logits(tiny_checkpoint, adapter), read_config(folder)
    session = open_graph(folder / adapter_graph_path(variant))
    without = np.abs(graph_logits(session, config) - base_logits).mean()
    found = graph_logits(session, config, read_adapter(adapter, session))
    assert np.abs(found - expected).mean() < 2 * without


def test_folds_are_undone(
    folder: Path, tiny_checkpoint: Path, make_adapter: Callable[..., Path], tmp_path: Path
) -> None:
    """A folded graph that was not rounded gives peft's logits: the conversion is exact."""

    def extreme(name: str, weight: NDArray[np.float32]) -> Fold:
        random = np.random.default_rng(len(name))
        scale = random.permutation(np.geomspace(0.05, 20, weight.shape[1], dtype=np.float32))
        return Fold(random.standard_normal((weight.shape[1],)).astype(np.float32), scale)

    source = load_graph(folder / variant_path("fp32"))
    assert len(fold(source.graph, extreme)) == 2 * 3 + 1
    save(source, tmp_path / "folded.onnx")
    target = tmp_path / "folded_lora.onnx"
    write_adapter_graph(source, folder / adapter_graph_path("fp32"), target)
    adapter, session = make_adapter(**EVERYWHERE), open_graph(target)
    found = graph_logits(session, read_config(folder), read_adapter(adapter, session))
    np.testing.assert_allclose(found, peft_logits(tiny_checkpoint, adapter), atol=5e-4)


def test_an_adapter_is_switched_off_again(
    folder: Path, base_logits: Logits, make_adapter: Callable[..., Path]
) -> None:
    session, config = open_graph(folder / adapter_graph_path("fp32")), read_config(folder)
    graph_logits(session, config, read_adapter(make_adapter(**EVERYWHERE), session))
    np.testing.assert_allclose(graph_logits(session, config), base_logits, atol=1e-4)


@pytest.mark.parametrize("variant", ["fp32", *VARIANTS])
def test_the_second_graph_is_small_and_listed(variant: str, folder: Path) -> None:
    """It reads the first one's weights, and the manifest has it."""
    path = adapter_graph_path(variant)
    assert [file.path for file in read_manifest(folder).variant(variant).all_files][:3] == [
        variant_path(variant),
        f"{variant_path(variant)}_data",
        path,
    ]
    assert (folder / path).stat().st_size < 100_000
    places = {
        value.const_value.location
        for value in ir.load(folder / path).graph.initializers.values()
        if isinstance(value.const_value, ir.ExternalTensor)
    }
    assert places == {f"{Path(variant_path(variant)).name}_data"}


def test_a_folder_has_none_unless_asked(tiny_folder: Path) -> None:
    assert not list(tiny_folder.rglob("*_lora*"))


def test_a_portable_graph_has_no_places(tiny_checkpoint: Path, tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="the portable graph has no places for adapters"):
        export(tiny_checkpoint, tmp_path / "model", graph="portable", adapters=True)
    assert not (tmp_path / "model").exists()


def test_the_metadata_is_plain_json(folder: Path) -> None:
    graph = open_graph(folder / adapter_graph_path("int8"))
    changes = json.loads(graph.get_modelmeta().custom_metadata_map["pocketgpt.adapter_changes"])
    assert set(changes["transformer.h.0.attn.c_attn"]) == {"scale", "center", "divisor"}
    assert set(changes["transformer.h.0.mlp.c_proj"]) == set()


def test_what_overflows_half_precision_is_refused(
    folder: Path, make_adapter: Callable[..., Path]
) -> None:
    adapter = make_adapter(lora_alpha=10**7, target_modules=["c_attn"])
    with pytest.raises(AdapterError, match=r"overflows half precision, in transformer\.h\.0"):
        read_adapter(adapter, open_graph(folder / adapter_graph_path("fp16")))


def test_metadata_that_does_not_fit_is_refused(
    folder: Path, make_adapter: Callable[..., Path]
) -> None:
    model = ir.load(folder / adapter_graph_path("int8"))
    changes = json.loads(model.metadata_props["pocketgpt.adapter_changes"])
    changes["transformer.h.0.attn.c_attn"]["scale"] = "AACAPwAAgD8="  # two numbers
    model.metadata_props["pocketgpt.adapter_changes"] = json.dumps(changes)
    damaged = folder / "onnx" / "damaged_lora.onnx"
    ir.save(model, damaged)
    try:
        session = open_graph(damaged)
    finally:
        damaged.unlink()
    with pytest.raises(AdapterError, match="quantize the variant again"):
        read_adapter(make_adapter(**EVERYWHERE), session)


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_decoder_of_a_variant_takes_it(
    variant: str,
    folder: Path,
    tiny_checkpoint: Path,
    base_logits: Logits,
    make_adapter: Callable[..., Path],
) -> None:
    """Loaded as users load it: as near to peft as the variant is to the model without."""
    adapter = make_adapter(**EVERYWHERE)
    model = pocketgpt.load(folder, variant, adapters={"name": adapter})
    without = np.abs(model.new_decoder().score(IDS.tolist()) - base_logits).mean()
    found = model.new_decoder(adapter="name").score(IDS.tolist())
    assert np.abs(found - peft_logits(tiny_checkpoint, adapter)).mean() < 2 * without


def test_a_variant_made_again_has_its_own_again(
    folder: Path, make_adapter: Callable[..., Path], tmp_path: Path
) -> None:
    """One replaced and one new, installed at once: all files are the manifest's."""
    copy = Path(shutil.copytree(folder, tmp_path / "copy"))
    before = read_manifest(copy).variant("int8")
    (copy / "calibration.txt").write_text("The wind turned, and then we saw it. " * 40, "utf-8")
    quantize(copy, ["int8", "mixed"], accept_loss=True, calibration_text=copy / "calibration.txt")
    (copy / "calibration.txt").write_bytes((folder / "calibration.txt").read_bytes())
    after = read_manifest(copy)
    assert after.variant("int8").adapter_graph != before.adapter_graph  # other folds
    assert not verify_files(copy).failures
    for variant in after.variants:
        pocketgpt.load(copy, variant, verify=True, adapters={"name": make_adapter()})


def test_an_altered_graph_with_places_is_refused(folder: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(folder, tmp_path / "copy"))
    before = read_manifest(copy)
    flip_a_bit(copy / adapter_graph_path("fp32"))
    with pytest.raises(ModelFolderError, match=r"model_lora\.onnx was altered"):
        quantize(copy, ["q4"], accept_loss=True)
    assert read_manifest(copy) == before


def test_a_foreign_graph_with_places_is_refused(folder: Path, tmp_path: Path) -> None:
    whole = (folder / adapter_graph_path("fp32")).read_bytes()
    plain = (folder / variant_path("fp32")).read_bytes()
    path = tmp_path / "model_lora.onnx"
    for content in (b"", b"\xff" * 64, whole[:999], plain):
        path.write_bytes(content)
        with pytest.raises(QuantizationError, match="no places for adapters") as caught:
            places_of(path)
        assert "\n" not in str(caught.value)


def test_another_models_graph_with_places_is_refused(folder: Path, tmp_path: Path) -> None:
    model = load_graph(folder / variant_path("fp32"))
    for index, node in enumerate(model.graph):
        for value in node.outputs:
            value.name = f"other.{index}.{value.name}"
    with pytest.raises(QuantizationError, match=r"at transformer\.h\.0\.attn\.c_attn, and the"):
        write_adapter_graph(model, folder / adapter_graph_path("fp32"), tmp_path / "made.onnx")
