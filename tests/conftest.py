"""Shared fixtures: checkpoints, the model folders made of them, and the command line in-process."""

from __future__ import annotations

import io
import os
import shutil
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

if worker := os.environ.get("PYTEST_XDIST_WORKER"):
    # A core for each: threads of several workers that wait for one another's cores stand still.
    if hasattr(os, "sched_setaffinity"):
        cores = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, {cores[int(worker.removeprefix("gw")) % len(cores)]})
    os.environ.pop("COLUMNS", None)  # xdist's: rich would keep it, whatever a test sets

import pocketgpt
from pocketgpt.cli import main

if TYPE_CHECKING:
    from tokenizers import Tokenizer
    from transformers import GPT2LMHeadModel, GPT2TokenizerFast

# Keeps Hugging Face's libraries, which read it when imported, from asking the network.
os.environ["HF_HUB_OFFLINE"] = "1"

ROOT = Path(__file__).resolve().parents[1]
# What tests/hand_over.py made, for where there is no PyTorch to make it with.
HANDED = Path(os.environ["POCKETGPT_HANDED"]) if "POCKETGPT_HANDED" in os.environ else None
END_OF_TEXT = "<|endoftext|>"
SENTENCES = (
    "The lighthouse keeper counted the ships as they came home in the evening.",
    "A small boat, three nets and 42 herring: that was all he had to sell.",
    "“Tomorrow,” she said, “the wind will turn, and then we\u2019ll see.”",
    "Le café était fermé; naïve, il attendit jusqu\u2019à l\u2019aube. Größe, Ångström, señor.",
    "灯台守は夕方に帰ってくる船を数えた。明日は風が変わるだろう。",
    "등대지기는 저녁마다 배를 세었다. Смотритель маяка считал корабли.",
    "We danced 💃🕺 all night 🌙, the whole family 👨‍👩‍👧‍👦 and the dog 🐕‍🦺!",
    "def count(ships):\n\treturn sum(1 for ship in ships if ship.home)\n",
)


def byte_level_bpe(texts: Sequence[str], vocab_size: int) -> Tokenizer:
    """Train a byte-level BPE of at most `vocab_size` tokens, id 0 the end of text."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[END_OF_TEXT],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def make_tokenizer() -> GPT2TokenizerFast:
    """Return a tokenizer trained on `SENTENCES`."""
    from tokenizers import processors
    from transformers import GPT2TokenizerFast

    tokenizer = byte_level_bpe(SENTENCES, 400)
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    named = {"bos_token": END_OF_TEXT, "eos_token": END_OF_TEXT, "unk_token": END_OF_TEXT}
    return GPT2TokenizerFast(tokenizer_object=tokenizer, **named)


def contents(folder: Path) -> dict[str, bytes]:
    """Every file below `folder`, hidden ones included."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


@pytest.fixture(scope="session")
def make_gpt2() -> Callable[..., GPT2LMHeadModel]:
    """Make a random GPT-2: 2 layers of 2 heads of 64, context 96, unless told otherwise.

    Its weights are ten times larger than usual, so that greedy text is not one token over and over.
    """

    def make(**changes: Any) -> GPT2LMHeadModel:
        torch = pytest.importorskip("torch", reason="makes a checkpoint with PyTorch")
        from transformers import GPT2Config, GPT2LMHeadModel

        shape = {"vocab_size": 400, "n_embd": 128, "n_head": 2, "n_layer": 2, "n_positions": 96}
        fixed = {"initializer_range": 0.2, "bos_token_id": 0, "eos_token_id": 0}
        torch.manual_seed(11)
        config = GPT2Config(**{**shape, **fixed, **changes}, attn_implementation="eager")
        model: GPT2LMHeadModel = GPT2LMHeadModel(config).eval()
        for name, parameter in model.named_parameters():
            if name.endswith("bias") or ".ln_" in name:  # which start at 0 and 1: nothing to test
                parameter.data += 0.1 * torch.randn_like(parameter)
        return model

    return make


@pytest.fixture(scope="session")
def tiny_checkpoint(
    tmp_path_factory: pytest.TempPathFactory, make_gpt2: Callable[..., GPT2LMHeadModel]
) -> Path:
    """A random checkpoint in Hugging Face format with its texts."""
    if HANDED:
        return HANDED / "tiny-checkpoint"
    folder = tmp_path_factory.mktemp("checkpoints") / "tiny"
    tokenizer = make_tokenizer()
    make_gpt2(vocab_size=len(tokenizer)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    (folder / "evaluation.txt").write_text("\n".join(SENTENCES), "utf-8")
    (folder / "calibration.txt").write_text("\n".join(reversed(SENTENCES)), "utf-8")
    return folder


@pytest.fixture(scope="session")
def make_classifier(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Make a random classifier's checkpoint of the same kind: 3 labels, unless told otherwise."""

    def make(**changes: Any) -> Path:
        torch = pytest.importorskip("torch", reason="makes a checkpoint with PyTorch")
        from transformers import GPT2Config, GPT2ForSequenceClassification

        folder = tmp_path_factory.mktemp("checkpoints") / "classifier"
        tokenizer = make_tokenizer()
        shape = {"vocab_size": len(tokenizer), "n_embd": 128, "n_head": 2, "n_layer": 2}
        fixed = {"n_positions": 96, "initializer_range": 0.2, "pad_token_id": 0, "num_labels": 3}
        if "id2label" in changes:
            changes["label2id"] = {name: number for number, name in changes["id2label"].items()}
        torch.manual_seed(7)
        config = GPT2Config(**{**shape, **fixed, "bos_token_id": 0, "eos_token_id": 0, **changes})
        GPT2ForSequenceClassification(config).save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        (folder / "evaluation.txt").write_text("\n".join(SENTENCES), "utf-8")
        (folder / "calibration.txt").write_text("\n".join(reversed(SENTENCES)), "utf-8")
        return folder

    return make


@pytest.fixture(scope="session")
def classifier_checkpoint(make_classifier: Callable[..., Path]) -> Path:
    """A random classifier of three named labels. Leave it as it is."""
    if HANDED:
        return HANDED / "classifier-checkpoint"
    return make_classifier(id2label={0: "negative", 1: "neutral", 2: "très positif 😀"})


@pytest.fixture(scope="session")
def classifier_folder(
    classifier_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """`classifier_checkpoint`, exported. Leave it as it is."""
    if HANDED:
        return HANDED / "classifier"
    from pocketgpt_export import export

    folder = tmp_path_factory.mktemp("folders") / "classifier"
    export(classifier_checkpoint, folder)
    return folder


@pytest.fixture(scope="session")
def tiny_reference(tiny_checkpoint: Path) -> GPT2LMHeadModel:
    """PyTorch's reading of `tiny_checkpoint`: float32, eager attention."""
    return load_reference(tiny_checkpoint)


def load_reference(checkpoint: Path) -> GPT2LMHeadModel:
    """Load a checkpoint the way every proof does."""
    torch = pytest.importorskip("torch", reason="compares with PyTorch")
    from transformers import GPT2LMHeadModel

    model: GPT2LMHeadModel = GPT2LMHeadModel.from_pretrained(
        checkpoint, dtype=torch.float32, attn_implementation="eager"
    ).eval()
    return model


@pytest.fixture(scope="session")
def tiny_folder(tiny_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`tiny_checkpoint` exported and quantized to int8 and q4. Leave it as it is."""
    if HANDED:
        return HANDED / "tiny"
    from pocketgpt_export import export
    from pocketgpt_quantize import quantize

    folder = tmp_path_factory.mktemp("folders") / "tiny"
    export(tiny_checkpoint, folder)
    quantize(folder, ["int8", "q4"], accept_loss=True)  # random weights round badly
    return folder


@pytest.fixture
def tiny_copy(tiny_folder: Path, tmp_path: Path) -> Path:
    """A copy of `tiny_folder` to damage."""
    return Path(shutil.copytree(tiny_folder, tmp_path / "tiny"))


@pytest.fixture
def checkpoint_copy(tiny_checkpoint: Path, tmp_path: Path) -> Path:
    """A copy of `tiny_checkpoint` to damage."""
    return Path(shutil.copytree(tiny_checkpoint, tmp_path / "checkpoint"))


@pytest.fixture(scope="session")
def tiny(tiny_folder: Path) -> pocketgpt.Model:
    """The fp32 variant of `tiny_folder`, loaded."""
    return pocketgpt.load(tiny_folder, "fp32")


@pytest.fixture(scope="session")
def adapter_folder(tiny_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`tiny_checkpoint`, exported for adapters. Leave it as it is."""
    from pocketgpt_export import export

    made = tmp_path_factory.mktemp("adapters") / "model"
    export(tiny_checkpoint, made, adapters=True)
    return made


@pytest.fixture(scope="session")
def adapters(tiny_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Two adapters of random numbers, of different ranks and products."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import GPT2LMHeadModel

    folders = {}
    shapes = {"first": (4, ["c_attn", "c_proj", "c_fc"]), "second": (7, ["c_attn"])}
    for seed, (name, (rank, targets)) in enumerate(shapes.items()):
        torch.manual_seed(seed)
        config = LoraConfig(
            r=rank, target_modules=targets, fan_in_fan_out=True, task_type="CAUSAL_LM"
        )
        model = get_peft_model(GPT2LMHeadModel.from_pretrained(tiny_checkpoint), config)
        for parameter_name, parameter in model.named_parameters():
            if ".lora_B." in parameter_name:  # which starts at 0
                parameter.data = 0.2 * torch.randn_like(parameter)
        folders[name] = tmp_path_factory.mktemp("adapters") / name
        model.save_pretrained(str(folders[name]))
    return folders


@pytest.fixture(scope="session")
def bundled_checkpoint() -> Path:
    """The checkpoint that ships in the repository."""
    return ROOT / "models" / "pocket-tales"


@pytest.fixture(scope="session")
def bundled_folder(bundled_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bundled checkpoint, exported."""
    if HANDED:
        return HANDED / "pocket-tales"
    from pocketgpt_export import export

    folder = tmp_path_factory.mktemp("folders") / "bundled"
    export(bundled_checkpoint, folder)
    return folder


@pytest.fixture(scope="session")
def bundled_reference(bundled_checkpoint: Path) -> GPT2LMHeadModel:
    """PyTorch's reading of the bundled checkpoint: float32, eager attention."""
    return load_reference(bundled_checkpoint)


@pytest.fixture(scope="session")
def reference_greedy() -> Callable[..., list[int]]:
    """`(model, prompt_ids, **generate's options)` -> the new ids of transformers' greedy search."""
    torch = pytest.importorskip("torch", reason="compares with PyTorch")

    def greedy(model: GPT2LMHeadModel, prompt_ids: Sequence[int], **options: Any) -> list[int]:
        ids = torch.tensor([[*prompt_ids]])
        mask = torch.ones_like(ids)
        made = model.generate(ids, attention_mask=mask, do_sample=False, pad_token_id=0, **options)
        new: list[int] = made[0, len(prompt_ids) :].tolist()
        return new

    return greedy


class Finished(NamedTuple):
    """What a run of the command line left."""

    returncode: int
    stdout: str
    stderr: str


Cli = Callable[..., Finished]


@pytest.fixture
def cli(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Cli:
    """Run `pocketgpt ARGUMENTS...` in this process, `stdin=` its standard input."""

    def run(*arguments: object, stdin: bytes | str = b"") -> Finished:
        given = stdin.encode() if isinstance(stdin, str) else stdin
        monkeypatch.setattr(sys, "argv", ["pocketgpt", *map(str, arguments)])
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(given), encoding="utf-8"))
        capsys.readouterr()
        with pytest.raises(SystemExit) as caught:
            main()
        code = caught.value.code
        assert isinstance(code, int)
        return Finished(code, *capsys.readouterr())

    return run
