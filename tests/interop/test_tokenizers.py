"""Token ids of other runtimes' tokenizers on the exporter's corpus, which is easily got wrong."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from pocketgpt_export.proof.tokenizer import CORPUS

from .conftest import FUSED, ours
from .node import Node

Encode = Callable[[list[str]], list[list[int]]]
END = "<|endoftext|>"
TEXTS = [*CORPUS, END, f"before{END}after", f" {END} {END}\n{END[:-1]}"]
PLAIN = list(CORPUS)  # the pair knows no special tokens


def expected(text: str) -> list[int]:
    return ours(FUSED, "fp32").tokenizer.encode(text)


def check(encode: Encode, texts: list[str]) -> None:
    found = encode(texts)
    wrong = [ascii(t[:40]) for t, ids in zip(texts, found, strict=True) if ids != expected(t)]
    assert wrong == []


def test_genai(fused: Path) -> None:
    """It takes a text as C does, up to the first NUL: none of ours but that one has any."""
    import onnxruntime_genai as og

    tokenizer = og.Tokenizer(og.Model(str(fused)))

    def encode(texts: list[str]) -> list[list[int]]:
        return [[int(token) for token in tokenizer.encode(text)] for text in texts]

    check(encode, [text for text in TEXTS if "\0" not in text])
    assert encode(["a\0b"]) == encode(["a"])


def test_transformers(fused: Path) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(fused)
    check(lambda texts: [tokenizer(text)["input_ids"] for text in texts], TEXTS)


def test_transformers_js(fused: Path, node: Node) -> None:
    check(lambda texts: node.ask("encode", folder=fused.name, texts=texts), TEXTS)
    ids = expected(CORPUS[0])
    assert node.ask("decode", folder=fused.name, ids=ids) == CORPUS[0]


def test_hugging_face_tokenizers_in_javascript(fused: Path, node: Node) -> None:
    """What a page takes that runs onnxruntime-web itself."""
    names = ("tokenizer.json", "tokenizer_config.json")
    files = [json.loads((fused / name).read_text("utf-8")) for name in names]
    check(lambda texts: node.ask("encode_alone", files=files, texts=texts), TEXTS)


class TestThePair:
    """vocab.json and merges.txt, for those who read no tokenizer.json."""

    def test_transformers_slow_tokenizer(self, fused: Path) -> None:
        from transformers import GPT2Tokenizer

        tokenizer = GPT2Tokenizer(str(fused / "vocab.json"), str(fused / "merges.txt"))
        check(lambda texts: [tokenizer(text)["input_ids"] for text in texts], PLAIN)

    def test_tokenizers(self, fused: Path) -> None:
        from tokenizers import ByteLevelBPETokenizer

        tokenizer = ByteLevelBPETokenizer.from_file(
            str(fused / "vocab.json"), str(fused / "merges.txt")
        )
        check(lambda texts: [tokenizer.encode(text).ids for text in texts], PLAIN)

    def test_onnxruntime_extensions(self, fused: Path) -> None:
        """C++, and a graph's own tokenizer."""
        from onnxruntime_extensions import OrtPyFunction

        operator = OrtPyFunction.from_customop(
            "GPT2Tokenizer",
            vocab=(fused / "vocab.json").read_text("utf-8"),
            merges=(fused / "merges.txt").read_text("utf-8"),
        )

        def encode(texts: list[str]) -> list[list[int]]:
            return [operator(np.array([text]))[0][0].tolist() for text in texts]

        check(encode, [text for text in PLAIN if text and "\0" not in text])


@pytest.mark.parametrize("name", ["vocab.json", "merges.txt"])
def test_the_portable_folder_has_the_same(fused: Path, portable: Path, name: str) -> None:
    assert (fused / name).read_bytes() == (portable / name).read_bytes()
