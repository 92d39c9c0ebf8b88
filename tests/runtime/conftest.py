"""A small random model for what is tested against transformers' generate, and its reference."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

import pocketgpt
from pocketgpt.engine.ragged import FIRST_ONNXRUNTIME
from pocketgpt.folder.onnxruntime_version import is_onnxruntime

from ..conftest import HANDED, byte_level_bpe

TEXTS = [
    "The quick brown fox jumps over the lazy dog and runs home again.",
    "A naïve café: “Größe”, 灯台守, 🙂🙃, and a tab\tor two.",
]
TUTORIAL: dict[str, Any] = {  # the call that every GPT-2 tutorial shows
    "max_length": 50,
    "num_beams": 5,
    "no_repeat_ngram_size": 2,
    "top_k": 50,
    "top_p": 0.95,
    "temperature": 0.7,
}
EOS = [145, 212]  # two tokens that this model likes, so that it ends some of its texts

needs_query_lengths = pytest.mark.skipif(
    not is_onnxruntime(FIRST_ONNXRUNTIME),
    reason=f"rows of different lengths take ONNX Runtime {FIRST_ONNXRUNTIME}",
)

# Where there is no PyTorch, on a board for one, modules that cannot do without are left out.
_MAKING = r"^(import|from) (torch|transformers|pocketgpt_export)\b"
if find_spec("torch") is None:
    collect_ignore = [
        path.name
        for path in Path(__file__).parent.glob("test_*.py")
        if re.search(_MAKING, path.read_text("utf-8"), re.MULTILINE)
    ]


@pytest.fixture(scope="session")
def random_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random GPT-2 of 2 layers with a context of 64, sharp enough to have a mind of its own."""
    if HANDED:
        return HANDED / "random-checkpoint"
    import torch
    from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

    folder = tmp_path_factory.mktemp("random") / "checkpoint"
    tokenizer = byte_level_bpe(TEXTS, 320)
    PreTrainedTokenizerFast(tokenizer_object=tokenizer).save_pretrained(folder)
    torch.manual_seed(5)
    config = GPT2Config(
        vocab_size=tokenizer.get_vocab_size(),
        n_positions=64,
        n_embd=64,
        n_layer=2,
        n_head=2,
        initializer_range=0.3,
        bos_token_id=0,
        eos_token_id=EOS,
    )
    GPT2LMHeadModel(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def random_folder(random_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`random_checkpoint`, exported. Leave it as it is."""
    if HANDED:
        return HANDED / "random"
    from pocketgpt_export import export

    folder = tmp_path_factory.mktemp("random") / "folder"
    export(random_checkpoint, folder)
    return folder


@pytest.fixture(scope="session")
def model(random_folder: Path) -> pocketgpt.Model:
    """`random_folder`, loaded."""
    return pocketgpt.load(random_folder, "fp32")


@pytest.fixture(scope="session")
def draft_folder(tiny_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`tiny_checkpoint` with noise on its weights and half of its context, exported."""
    if HANDED:
        return HANDED / "draft"
    import torch
    from transformers import GPT2Config, GPT2LMHeadModel

    from pocketgpt_export import export

    checkpoint = tmp_path_factory.mktemp("drafts") / "checkpoint"
    shutil.copytree(tiny_checkpoint, checkpoint)
    weights = GPT2LMHeadModel.from_pretrained(tiny_checkpoint).state_dict()
    weights["transformer.wpe.weight"] = weights["transformer.wpe.weight"][:48]
    torch.manual_seed(3)
    noisy = {name: tensor + 0.01 * torch.randn_like(tensor) for name, tensor in weights.items()}
    noisy["lm_head.weight"] = noisy["transformer.wte.weight"]
    model = GPT2LMHeadModel(GPT2Config.from_pretrained(tiny_checkpoint, n_positions=48))
    model.load_state_dict(noisy)
    model.save_pretrained(checkpoint)
    folder = checkpoint.parent / "folder"
    export(checkpoint, folder)
    return folder


Reference = Callable[..., list[tuple[list[int], float | None]]]


@pytest.fixture(scope="session")
def reference(random_checkpoint: Path, model: pocketgpt.Model) -> Reference:
    """`(prompt, **options)` -> transformers' new ids, without padding, and each text's score."""
    torch = pytest.importorskip("torch", reason="compares with PyTorch")
    from transformers import GPT2LMHeadModel

    torch_model: Any = GPT2LMHeadModel.from_pretrained(
        random_checkpoint, dtype=torch.float32, attn_implementation="eager"
    ).eval()

    def generate(prompt: str, **options: Any) -> list[tuple[list[int], float | None]]:
        ids = torch.tensor([model.tokenizer.encode(prompt)])
        ends = options.get("eos_token_id", EOS)
        made = torch_model.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            pad_token_id=0,
            return_dict_in_generate=True,
            output_scores=True,
            **options,
        )
        scores = made.get("sequences_scores", [None] * len(made.sequences))
        texts = [_until_end(row[ids.shape[1] :].tolist(), ends) for row in made.sequences]
        return [
            (text, None if score is None else float(score))
            for text, score in zip(texts, scores, strict=True)
        ]

    return generate


def _until_end(ids: list[int], ends: int | Sequence[int]) -> list[int]:
    ends = [ends] if isinstance(ends, int) else ends
    last = next((i for i, token_id in enumerate(ids) if token_id in ends), len(ids))
    return ids[: last + 1]
