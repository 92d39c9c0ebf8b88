"""Greedy tokens of other runtimes on our folder, as its files tell them to run it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest

from pocketgpt.folder.config import read_config
from pocketgpt.folder.manifest import read_manifest, variant_path

from .conftest import FUSED, NEW_TOKENS, PORTABLE, PROMPTS, VARIANTS, Agree, ours, prompt_ids
from .node import Node

Generate = Callable[[list[int], int], list[int]]
EQUAL = 3  # of the five prompts: what near ties may cost a quantized variant


def check(agree: Agree, variant: str, generate: Generate) -> None:
    same = [agree(variant, p, generate(prompt_ids(p), NEW_TOKENS)) for p in PROMPTS]
    assert sum(same) >= EQUAL, same
    print(f"{variant}: {sum(same)} of {len(same)} texts equal")


def check_portable(generate: Generate) -> None:
    for prompt in PROMPTS:
        expected = ours(PORTABLE, "fp32").generate(prompt, max_new_tokens=NEW_TOKENS)
        assert generate(prompt_ids(prompt), NEW_TOKENS) == list(expected.token_ids)


def whole_context(prompt: str) -> tuple[list[int], list[int]]:
    """Return a prompt's ids and our greedy tokens until the context is full."""
    ids = prompt_ids(prompt)
    room = read_config(FUSED).n_positions - len(ids)
    result = ours(FUSED, "fp32").generate(
        prompt, max_new_tokens=room, min_new_tokens=room, do_sample=False
    )
    assert len(result.token_ids) == room
    return ids, list(result.token_ids)


class TestGenAI:
    def generate(self, folder: Path, variant: str | None = None) -> Generate:
        import onnxruntime_genai as og

        config = og.Config(str(folder))
        if variant is not None:
            graph = {"model": {"decoder": {"filename": variant_path(variant)}}}
            config.overlay(json.dumps(graph))
        model = og.Model(config)

        def run(ids: list[int], count: int, **search: Any) -> list[int]:
            params = og.GeneratorParams(model)
            params.set_search_options(max_length=len(ids) + count, **search)
            generator = og.Generator(model, params)
            generator.append_tokens(np.array([ids], np.int32))
            while not generator.is_done():
                generator.generate_next_token()
            return [int(token) for token in generator.get_sequence(0)[len(ids) :]]

        return run

    @pytest.mark.parametrize("variant", VARIANTS)
    def test_tokens(self, fused: Path, agree: Agree, variant: str) -> None:
        check(agree, variant, self.generate(fused, variant))

    def test_as_the_folder_says(self, fused: Path, agree: Agree) -> None:
        check(agree, "int8", self.generate(fused))

    def test_portable(self, portable: Path) -> None:
        check_portable(self.generate(portable))

    def test_the_whole_context(self, fused: Path) -> None:
        ids, expected = whole_context(PROMPTS[0])
        full = read_config(fused).n_positions
        run: Any = self.generate(fused, "fp32")
        assert run(ids, full - len(ids), min_length=full) == expected
        with pytest.raises(RuntimeError, match="max_length"):
            run(ids, full - len(ids) + 1)


class TestOptimum:
    def generate(self, folder: Path, variant: str) -> Generate:
        from optimum.onnxruntime import ORTModelForCausalLM

        name = Path(variant_path(variant)).name
        model = ORTModelForCausalLM.from_pretrained(folder, subfolder="onnx", file_name=name)

        def run(ids: list[int], count: int, **options: Any) -> list[int]:
            import torch

            given = torch.tensor([ids])
            made = model.generate(
                given,
                attention_mask=torch.ones_like(given),
                max_new_tokens=count,
                do_sample=False,
                **options,
            )
            return [int(token) for token in made[0][len(ids) :]]

        return run

    @pytest.mark.parametrize("variant", VARIANTS)
    def test_tokens(self, fused: Path, agree: Agree, variant: str) -> None:
        check(agree, variant, self.generate(fused, variant))

    def test_portable(self, portable: Path) -> None:
        check_portable(self.generate(portable, "fp32"))

    def test_the_whole_context(self, fused: Path) -> None:
        ids, expected = whole_context(PROMPTS[0])
        run: Any = self.generate(fused, "fp32")
        assert run(ids, len(expected), min_new_tokens=len(expected)) == expected


class TestTransformersJs:
    def generate(self, node: Node, folder: Path, dtype: str | None) -> Generate:
        def run(ids: list[int], count: int, **options: Any) -> list[int]:
            made: list[int] = node.ask(
                "generate", folder=folder.name, dtype=dtype, ids=ids, count=count, **options
            )
            return made

        return run

    @pytest.mark.parametrize("variant", VARIANTS)
    def test_tokens(self, fused: Path, node: Node, agree: Agree, variant: str) -> None:
        check(agree, variant, self.generate(node, fused, variant))

    def test_without_a_dtype(self, fused: Path, node: Node, agree: Agree) -> None:
        assert node.ask("dtype", folder=fused.name) == "int8"
        check(agree, "int8", self.generate(node, fused, None))

    def test_portable(self, portable: Path, node: Node) -> None:
        assert node.ask("dtype", folder=portable.name) == "fp32"
        check_portable(self.generate(node, portable, None))

    def test_the_whole_context(self, fused: Path, node: Node) -> None:
        """And beyond it no text: transformers.js itself does not stop there."""
        ids, expected = whole_context(PROMPTS[0])
        run: Any = self.generate(node, fused, "fp32")
        assert run(ids, len(expected), keep_going=True) == expected
        with pytest.raises(RuntimeError, match="out of data bounds"):
            run(ids, len(expected) + 2, keep_going=True)

    def test_its_pipeline_cuts_a_prompt_to_the_context(self, fused: Path, node: Node) -> None:
        words = "word " * 600
        text = node.ask("pipeline", folder=fused.name, text=words, count=1)
        cut = ours(fused, "fp32").tokenizer.encode(words)[: read_config(fused).n_positions]
        assert text.startswith(ours(fused, "fp32").tokenizer.decode(cut))
        assert len(text) < len(words)


class TestModelPackage:
    def test_tokens(self, fused: Path, agree: Agree) -> None:
        """ONNX Runtime opens the folder itself, and takes the variant listed first for the CPU."""
        package = ort.ModelPackageContext(str(fused))
        options = ort.SessionOptions()
        options.log_severity_level = 3
        chosen = package.select_component("model", ort.ModelPackageOptions(options))
        assert chosen.get_selected_variant_name() == "int8"
        check(agree, "int8", self.generate(chosen.create_session(options)))

    def test_every_variant_is_listed(self, fused: Path) -> None:
        listed = ort.ModelPackageContext(str(fused)).get_variant_names("model")
        assert set(read_manifest(fused).variants) <= set(listed)

    def generate(self, session: ort.InferenceSession) -> Generate:
        shape = read_config(FUSED)
        cache = [one.name for one in session.get_inputs() if one.name.startswith("past_key")]

        def run(ids: list[int], count: int) -> list[int]:
            tokens, seen = list(ids), 0
            past = [np.zeros((1, shape.n_head, 0, shape.head_dim), np.float32)] * len(cache)
            while len(tokens) < len(ids) + count and (len(tokens) == len(ids) or tokens[-1] != 0):
                feeds = {
                    "input_ids": np.array([tokens[seen:]], np.int64),
                    "attention_mask": np.ones((1, len(tokens)), np.int64),
                    "position_ids": np.arange(seen, len(tokens))[None],
                }
                logits, *past = session.run(None, feeds | dict(zip(cache, past, strict=True)))
                seen = len(tokens)
                tokens.append(int(logits[0, -1].argmax()))
            return tokens[len(ids) :]

        return run
