"""Prompts by one variant, tokens by another, over one cache."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

import pocketgpt
from pocketgpt import OptionError
from pocketgpt.folder.manifest import read_manifest
from pocketgpt.folder.opening import KvCache, pick_variant
from pocketgpt_quantize import quantize

IDS = np.random.default_rng(6).integers(1, 300, 70).tolist()


@pytest.fixture(scope="module")
def folder(exported: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small model with variants of one basis, made one after another, and one of another."""
    made = Path(shutil.copytree(exported, tmp_path_factory.mktemp("pairs") / "model"))
    quantize(made, ["q8"], accept_loss=True)
    quantize(made, ["q4", "int8", "fp16"], accept_loss=True)
    return made


def test_variants_of_one_text_have_one_basis(folder: Path) -> None:
    variants = read_manifest(folder).variants
    assert variants["q8"].basis == variants["q4"].basis == variants["int8"].basis is not None
    assert variants["fp32"].basis is variants["fp16"].basis is None


@pytest.mark.parametrize("kv_cache", ["float", "int8"])
@pytest.mark.parametrize("variant", ["q4", "int8"])
def test_prompts_are_the_other_variants_and_steps_its_own(
    folder: Path, variant: str, kv_cache: KvCache
) -> None:
    alone, by, fp32 = (
        pocketgpt.load(folder, name, kv_cache=kv_cache) for name in (variant, "q8", "fp32")
    )
    pair = pocketgpt.load(folder, variant, kv_cache=kv_cache, prefill_variant="q8")
    decoders = [model.new_decoder() for model in (pair, by, alone, fp32)]
    prefilled = [decoder.prefill(IDS[:60]).copy() for decoder in decoders]
    np.testing.assert_array_equal(prefilled[0], prefilled[1])
    # A step over keys and values of q8's is about as near to fp32 as one over the variant's own.
    stepped = [decoder.step(IDS[60]).copy() for decoder in decoders]
    assert (stepped[0] != stepped[1]).any()
    errors = [np.abs(logits - stepped[3]).mean() for logits in stepped[:3]]
    assert errors[0] < 3 * max(errors[1:])
    # Short chunks and scores are the variant's own.
    one, other = pair.new_decoder(), alone.new_decoder()
    np.testing.assert_array_equal(one.append(IDS[:8]), other.append(IDS[:8]))
    np.testing.assert_array_equal(one.score(IDS[8:60]), other.score(IDS[8:60]))


def test_it_generates_in_batches_sessions_and_copies(folder: Path, tmp_path: Path) -> None:
    import pickle

    pair = pocketgpt.load(folder, "q4", prefill_variant="q8")
    long = "a small owl found the old stone and sang. " * 2
    texts = [result.text for result in pair.generate([long, "the king"], max_new_tokens=12)]
    assert all(texts)
    assert pickle.loads(pickle.dumps(pair)).generate(long, max_new_tokens=12).text
    session = pair.session()
    session.append(long)
    session.save(tmp_path / "session")
    with pytest.raises(pocketgpt.SessionError, match="another model or variant"):
        pocketgpt.load(folder, "q4").restore(tmp_path / "session")


def test_what_means_something_else_is_refused(folder: Path, tmp_path: Path) -> None:
    for variant, other in (("q4", "fp32"), ("fp32", "q8"), ("q8", "fp16")):
        with pytest.raises(OptionError, match="cannot compute the prompts of"):
            pocketgpt.load(folder, variant, prefill_variant=other)
    with pytest.raises(OptionError, match="no variant 'mixed'"):
        pocketgpt.load(folder, "q4", prefill_variant="mixed")
    copy = Path(shutil.copytree(folder, tmp_path / "model"))
    text = (copy / "calibration.txt").read_text("utf-8")
    (copy / "calibration.txt").write_text(text.upper(), "utf-8")
    quantize(copy, ["q4"], accept_loss=True)
    with pytest.raises(OptionError, match="made with one calibration text"):
        pocketgpt.load(copy, "q4", prefill_variant="q8")


@pytest.mark.parametrize(("fast", "expected"), [(True, "q8"), (False, "int8")])
def test_the_processor_decides_what_is_opened(
    folder: Path, monkeypatch: pytest.MonkeyPatch, fast: bool, expected: str
) -> None:
    monkeypatch.setattr("pocketgpt.folder.pairing.multiplies_bytes", lambda: fast)
    assert pick_variant(read_manifest(folder), None) == expected
    assert pocketgpt.load(folder).variant == expected
