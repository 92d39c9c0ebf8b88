"""Checkpoints whose tokenizer is not GPT-2's own: run as transformers runs them, or refused."""

from __future__ import annotations

import doctest
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import sentencepiece
import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    AutoTokenizer,
    BertTokenizer,
    GPT2LMHeadModel,
    GPT2Tokenizer,
    GPT2TokenizerFast,
    PreTrainedTokenizerFast,
)

import pocketgpt
from pocketgpt import CheckpointError, MissingExtraError, ModelFolderError
from pocketgpt.text.tokenizer import Tokenizer as RuntimeTokenizer
from pocketgpt_export import export
from pocketgpt_export.source import tokenizer as source

from ..conftest import ROOT, SENTENCES
from .conftest import tiny_model

CHINESE = (
    "春眠不觉晓,处处闻啼鸟。",
    "夜来风雨声,花落知多少。",
    "床前明月光 hello, World!",
    "白日依山尽😀黄河入海流",
    "",
)
JAPANESE = (
    "灯台守は夕方に帰ってくる船を数えた。",
    "明日は 風が変わるだろう。 Good evening!",
    "同じ𠮷野家で👍🏽",
    "",
)


def write_bert(folder: Path, *, named: bool = True) -> None:
    """As `BertTokenizer.save_pretrained` of transformers: vocab.txt alone, maybe its class."""
    characters = sorted({c for text in CHINESE[:3] for c in text.lower() if not c.isspace()})
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *characters]
    words += [f"##{c}" for c in characters if c.isascii() and c.isalpha()]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.txt").write_text("\n".join(words), "utf-8")
    if named:
        BertTokenizer(str(folder / "vocab.txt")).save_pretrained(folder)


def write_sentencepiece(folder: Path, *, kind: str | None = "T5Tokenizer", **options: Any) -> None:
    """A spiece.model of SentencePiece's own trainer, as Japanese GPT-2s come with."""
    folder.mkdir(parents=True, exist_ok=True)
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter([*SENTENCES, *JAPANESE] * 10),
        model_writer=model,
        vocab_size=280,
        hard_vocab_limit=False,
        minloglevel=2,
        **options,
    )
    (folder / "spiece.model").write_bytes(model.getvalue())
    if kind:
        fields = {"tokenizer_class": kind, "extra_ids": 0, "eos_token": "</s>"}
        (folder / "tokenizer_config.json").write_text(json.dumps(fields), "utf-8")


def write_fast(folder: Path, tokenizer: Tokenizer) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="[UNK]").save_pretrained(folder)


def word_level() -> Tokenizer:
    tokenizer = Tokenizer(models.WordLevel(unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    trainer = trainers.WordLevelTrainer(special_tokens=["[UNK]"], show_progress=False)
    tokenizer.train_from_iterator(["NOTE_ON=60 NOTE_OFF=60 TIME=4 BAR", *SENTENCES], trainer)
    return tokenizer


def metaspace() -> Tokenizer:
    """A BPE over SentencePiece's spaces, as KoGPT2 has one."""
    tokenizer = Tokenizer(models.BPE(unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    trainer = trainers.BpeTrainer(
        vocab_size=300, special_tokens=["[UNK]", "</s>"], show_progress=False
    )
    tokenizer.train_from_iterator(SENTENCES, trainer)
    return tokenizer


def byte_fallback() -> Tokenizer:
    """Llama's kind: characters outside of the vocabulary are bytes."""
    tokenizer = metaspace()
    vocabulary = tokenizer.get_vocab()
    merges = [
        tuple(pair) if isinstance(pair, list) else tuple(pair.split(" "))
        for pair in json.loads(tokenizer.to_str())["model"]["merges"]
    ]
    for byte in range(256):
        vocabulary[f"<0x{byte:02X}>"] = len(vocabulary)
    whole = Tokenizer(models.BPE(vocabulary, merges, unk_token="[UNK]", byte_fallback=True))
    whole.pre_tokenizer = pre_tokenizers.Metaspace()
    whole.decoder = decoders.Sequence(
        [
            decoders.Replace("▁", " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
            decoders.Strip(" ", 1, 0),
        ]
    )
    return whole


def write_model(folder: Path) -> GPT2LMHeadModel:
    """Write a model that fits the folder's tokenizer; return it."""
    size = len(AutoTokenizer.from_pretrained(folder)) if any(folder.glob("*.json")) else 128
    model = tiny_model(vocab_size=size, n_layer=1, bos_token_id=None, eos_token_id=None)
    model.save_pretrained(folder)
    model.eval()
    return model


KINDS: dict[str, tuple[Callable[[Path], None], tuple[str, ...]]] = {
    "vocab.txt": (write_bert, CHINESE),
    "vocab.txt alone": (lambda folder: write_bert(folder, named=False), CHINESE),
    "spiece.model": (write_sentencepiece, JAPANESE),
    "spiece.model, BPE": (lambda folder: write_sentencepiece(folder, model_type="bpe"), JAPANESE),
    "WordLevel": (lambda folder: write_fast(folder, word_level()), ("NOTE_ON=60 TIME=4", "BAR")),
    "Metaspace": (lambda folder: write_fast(folder, metaspace()), SENTENCES),
    "byte fallback": (lambda folder: write_fast(folder, byte_fallback()), (*CHINESE, *JAPANESE)),
}


@pytest.mark.parametrize("kind", KINDS)
def test_ids_text_and_tokens_are_transformers_own(kind: str, tmp_path: Path) -> None:
    """Streamed, too: the pieces and the prompt join to what transformers decodes as a whole."""
    write, texts = KINDS[kind]
    write(tmp_path / "checkpoint")
    model = write_model(tmp_path / "checkpoint")
    export(tmp_path / "checkpoint", tmp_path / "folder")
    reference = AutoTokenizer.from_pretrained(tmp_path / "folder")
    loaded = pocketgpt.load(tmp_path / "folder")
    for text in texts:
        ids = reference(text)["input_ids"]
        assert loaded.tokenizer.encode(text) == ids
        if not ids:
            continue
        expected = model.generate(
            torch.tensor([ids]), max_new_tokens=20, do_sample=False, pad_token_id=0
        )[0].tolist()
        stream = loaded.stream(text, max_new_tokens=20)
        pieces = "".join(stream)
        assert stream.result is not None
        assert ids + stream.result.token_ids == expected
        whole = reference.decode(
            expected, skip_special_tokens=True, clean_up_tokenization_spaces=False
        )
        assert loaded.tokenizer.decode(ids) + pieces == whole
        assert stream.result.text == pieces


def test_special_tokens_around_a_prompt_are_an_option(tmp_path: Path) -> None:
    """BERT's put [SEP] behind a prompt, which few GPT-2s were trained to go on from."""
    write_bert(tmp_path / "checkpoint")
    model = write_model(tmp_path / "checkpoint")
    export(tmp_path / "checkpoint", tmp_path / "folder")
    reference = AutoTokenizer.from_pretrained(tmp_path / "folder")
    loaded = pocketgpt.load(tmp_path / "folder")
    ids = reference("春眠", add_special_tokens=False)["input_ids"]
    assert len(ids) == 2
    expected = model.generate(
        torch.tensor([ids]), max_new_tokens=12, do_sample=False, pad_token_id=0
    )[0].tolist()
    found = loaded.generate("春眠", max_new_tokens=12, add_special_tokens=False)
    assert ids + found.token_ids == expected
    assert found.timings.prompt_tokens == 2
    assert loaded.generate("春眠", max_new_tokens=12).timings.prompt_tokens == 4


def test_stop_strings_and_beams_see_the_text(tmp_path: Path) -> None:
    """Among words, where the stop string begins with the space before one."""
    write_fast(tmp_path / "checkpoint", metaspace())
    write_model(tmp_path / "checkpoint")
    export(tmp_path / "checkpoint", tmp_path / "folder")
    loaded = pocketgpt.load(tmp_path / "folder")
    whole = loaded.generate("The keeper", max_new_tokens=30).text
    stop = whole[10:14]
    cut = loaded.generate("The keeper", max_new_tokens=30, stop_strings=stop)
    assert cut.text == whole[: whole.index(stop)]
    assert cut.finish_reason == "stop"
    beams = loaded.generate("The keeper", max_new_tokens=30, num_beams=3).text
    stop = beams[8:11]
    cut = loaded.generate("The keeper", max_new_tokens=30, num_beams=3, stop_strings=stop)
    assert stop not in cut.text


def test_a_sentencepiece_without_its_class_says_what_to_write(tmp_path: Path) -> None:
    write_sentencepiece(tmp_path / "checkpoint", kind=None)
    tiny_model(vocab_size=300, n_layer=1).save_pretrained(tmp_path / "checkpoint")
    with pytest.raises(CheckpointError, match=r"SentencePiece.*T5Tokenizer"):
        export(tmp_path / "checkpoint", tmp_path / "folder")
    assert not (tmp_path / "folder").exists()


def test_a_missing_sentencepiece_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_sentencepiece(tmp_path / "checkpoint")
    tiny_model(vocab_size=300, n_layer=1).save_pretrained(tmp_path / "checkpoint")
    monkeypatch.setattr(source, "_SENTENCEPIECE", ("sentencepiece_that_is_not_there",))
    with pytest.raises(MissingExtraError, match=r"pocketgpt\[sentencepiece\]"):
        export(tmp_path / "checkpoint", tmp_path / "folder")


def test_a_kind_that_cannot_be_shown_token_by_token_is_named(tmp_path: Path) -> None:
    """GPT-1's marks the ends of words: whether a space follows depends on what comes."""
    tokenizer = metaspace()
    tokenizer.decoder = decoders.BPEDecoder()
    write_fast(tmp_path / "checkpoint", tokenizer)
    write_model(tmp_path / "checkpoint")
    with pytest.raises(CheckpointError, match=r"BPE.*BPEDecoder.*token by token"):
        export(tmp_path / "checkpoint", tmp_path / "folder")


def test_a_folder_with_such_a_tokenizer_is_named_too(tmp_path: Path) -> None:
    write_fast(tmp_path / "checkpoint", metaspace())
    write_model(tmp_path / "checkpoint")
    export(tmp_path / "checkpoint", tmp_path / "folder")
    fields = json.loads((tmp_path / "folder" / "tokenizer.json").read_text("utf-8"))
    fields["decoder"] = {
        "type": "CTC",
        "pad_token": "a",
        "word_delimiter_token": "b",
        "cleanup": True,
    }
    path = tmp_path / "folder" / "tokenizer.json"
    path.write_text(json.dumps(fields), "utf-8")
    with pytest.raises(pocketgpt.ModelFolderError, match=r"tokenizer\.json.*CTC"):
        RuntimeTokenizer(path)


@pytest.fixture
def grown(tmp_path: Path, tiny_tokenizer: PreTrainedTokenizerFast) -> Path:
    """A checkpoint with words added to its byte-level vocabulary, some special."""
    folder = tmp_path / "grown"
    tokenizer = GPT2TokenizerFast(tokenizer_object=tiny_tokenizer.backend_tokenizer)
    tokenizer.add_tokens(
        ["müde", "Straßenbahn", "naïve", "ÿ", "猫", AddedToken(" späť", lstrip=False), "Ġwort"]
    )
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|größe|>"]})
    tokenizer.save_pretrained(folder)
    tiny_model(vocab_size=len(tokenizer), n_layer=1).save_pretrained(folder)
    return folder


def test_added_tokens_are_the_words_they_are(grown: Path, tmp_path: Path) -> None:
    """By transformers' slow tokenizer; the fast one takes their characters for bytes."""
    export(grown, tmp_path / "folder")
    loaded = pocketgpt.load(tmp_path / "folder")
    slow = GPT2Tokenizer.from_pretrained(grown)
    for text in (
        "sie ist müde, und die Straßenbahn fährt",
        "naïve ÿ 猫猫 späť",
        "ein Ġwort",
        "a<|größe|>müde",
    ):
        ids = loaded.tokenizer.encode(text)
        assert ids == slow(text)["input_ids"]
        expected = slow.decode(
            ids,
            skip_special_tokens=True,
            spaces_between_special_tokens=False,
            clean_up_tokenization_spaces=False,
        )
        assert loaded.tokenizer.decode(ids) == expected
        assert expected == text.replace("<|größe|>", "")


def test_the_proof_looks_at_added_tokens(
    grown: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A runtime that took them for bytes would not pass."""
    from pocketgpt.text.detokenizer import Detokenizer

    def as_bytes(self: Detokenizer, ids: list[int]) -> bytes:
        text: str = self._tokenizer.decode(list(ids), skip_special_tokens=True)
        return text.encode("utf-8")

    monkeypatch.setattr(Detokenizer, "text_bytes", as_bytes)
    with pytest.raises(pocketgpt.ProofError, match="tokenizer decodes"):
        export(grown, tmp_path / "folder")
    assert not (tmp_path / "folder").exists()


def test_constraints_need_gpt2s_own_kind(tmp_path: Path) -> None:
    write_bert(tmp_path / "checkpoint")
    write_model(tmp_path / "checkpoint")
    export(tmp_path / "checkpoint", tmp_path / "folder")
    loaded = pocketgpt.load(tmp_path / "folder")
    with pytest.raises(pocketgpt.OptionError, match=r"regex.*tokenizer.*WordPiece"):
        loaded.generate("春眠", regex="[a-z]+")


def test_a_session_goes_on_with_the_text(tmp_path: Path) -> None:
    """Its text is transformers' of all ids, and [CLS] comes once, [SEP] never."""
    write_bert(tmp_path / "checkpoint")
    write_model(tmp_path / "checkpoint")
    export(tmp_path / "checkpoint", tmp_path / "folder")
    reference = AutoTokenizer.from_pretrained(tmp_path / "folder")
    session = pocketgpt.load(tmp_path / "folder").session()
    session.append("春眠 hello")
    made = session.generate(max_new_tokens=4)
    session.append("不觉")
    first = reference("春眠 hello", add_special_tokens=False)["input_ids"]
    second = reference("不觉", add_special_tokens=False)["input_ids"]
    assert session.token_ids == [reference.cls_token_id, *first, *made.token_ids, *second]
    assert session.text == reference.decode(
        session.token_ids, skip_special_tokens=True, clean_up_tokenization_spaces=False
    )


def test_the_worked_example_in_the_docs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    page = (ROOT / "docs" / "tokenizers.md").read_text("utf-8")
    example = doctest.DocTestParser().get_doctest(page, {}, "tokenizers.md", None, 0)
    assert doctest.DocTestRunner().run(example) == doctest.TestResults(0, len(example.examples))


def test_a_tokenizer_without_a_token_for_what_is_unknown(tmp_path: Path) -> None:
    """Music's: every word is known, and what is none is refused when it is met."""
    folder = tmp_path / "checkpoint"
    words = Tokenizer(models.WordLevel({"BAR": 0, "NOTE_ON=60": 1, "TIME=4": 2}))
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    PreTrainedTokenizerFast(tokenizer_object=words).save_pretrained(folder)
    write_model(folder)
    export(folder, tmp_path / "model")
    model = pocketgpt.load(tmp_path / "model", "fp32")
    own = AutoTokenizer.from_pretrained(folder)
    text = "BAR NOTE_ON=60 TIME=4 BAR"
    assert model.tokenizer.encode(text) == own(text)["input_ids"]
    assert len(model.generate(text, max_new_tokens=3).token_ids) == 3
    model.session().append(text)
    with pytest.raises(ModelFolderError, match=r"cannot encode this text: .*\[UNK\]"):
        model.generate("BAR la la")


@pytest.mark.parametrize(
    ("kind", "write", "reads"),
    [
        ("CamembertTokenizer", write_sentencepiece, "spiece.model.* sentencepiece.bpe.model:"),
        ("LlamaTokenizer", write_sentencepiece, "spiece.model.* tokenizer.model:"),
        ("GPT2Tokenizer", write_bert, "vocab.txt.* vocab.json and merges.txt:"),
    ],
)
def test_a_class_that_reads_files_of_other_names(
    kind: str, write: Callable[[Path], None], reads: str, tmp_path: Path
) -> None:
    write(tmp_path)
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": kind}), "utf-8")
    with pytest.raises(CheckpointError, match=f"it has {reads} write its class there, or give"):
        source.load_tokenizer(tmp_path)


def test_a_decoder_that_strips_the_end_is_named(tmp_path: Path) -> None:
    tokenizer = metaspace()
    strip = decoders.Strip(" ", 0, 1)
    tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.Fuse(), strip])
    write_fast(tmp_path, tokenizer)
    with pytest.raises(CheckpointError, match="its decoder is Strip at the end, which cannot be"):
        source.load_tokenizer(tmp_path)
