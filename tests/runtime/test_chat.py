"""Conversations: nothing computed twice, and nothing lost when a turn goes wrong."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import tokenizers
from transformers import AutoTokenizer

import pocketgpt
from pocketgpt import OptionError, Stream
from pocketgpt.sessions.chat import Chat
from pocketgpt.text.chat_template import Turn, read_format

from ..conftest import Cli

END = "<|endoftext|>"
OPTIONS: dict[str, Any] = {"max_new_tokens": 5}


def say(chat: Chat, text: str) -> str:
    stream = chat.reply(text, **OPTIONS)
    answer = "".join(stream)
    chat.remember(answer)
    return answer


def test_a_turn_goes_on_from_the_cache(model: pocketgpt.Model) -> None:
    chat = Chat(model, dialogue)
    first = say(chat, "A dog")
    before = chat.session.evaluated_tokens
    second = say(chat, "fox")
    whole = model.tokenizer.encode(f"A dog{END}{first}{END}fox{END}")
    expected = model.session()
    expected.append(whole)
    assert expected.generate(**OPTIONS).text == second
    # At most the answer, whose tokens its text may not give again, and what is new.
    assert chat.session.evaluated_tokens - before < expected.evaluated_tokens
    assert [turn["role"] for turn in chat.turns] == ["user", "assistant"] * 2


def test_the_oldest_turns_go_when_the_context_is_full(model: pocketgpt.Model) -> None:
    chat = Chat(model, dialogue)
    for count in range(8):
        say(chat, f"fox {count} " + "z" * 10)
    assert chat.turns[-2]["content"].startswith("fox 7")
    assert len(chat.turns) < 16


def dialogue(turns: Sequence[Turn]) -> str:
    return "".join(turn["content"] + END for turn in turns)


def test_a_message_that_is_too_long_leaves_the_conversation_as_it_was(
    model: pocketgpt.Model,
) -> None:
    chat = Chat(model, dialogue)
    for text in ("A dog", "fox"):
        say(chat, text)
    turns = list(chat.turns)
    with pytest.raises(OptionError, match="say it shorter"):
        chat.reply("z" * 70, **OPTIONS)
    assert chat.turns == turns
    expected = Chat(model, dialogue)
    for text in ("A dog", "fox"):
        say(expected, text)
    assert say(chat, "quick") == say(expected, "quick")


def test_an_error_in_the_middle_of_an_answer_leaves_the_conversation_as_it_was(
    model: pocketgpt.Model,
) -> None:
    """Only once a text has begun is there a token that all tokens are ruled out after."""
    chat = Chat(model, dialogue)
    say(chat, "A dog")
    turns = list(chat.turns)
    vocabulary = range(model.config.vocab_size)
    first = model.session()
    first.append(model.tokenizer.encode(dialogue([*turns, {"role": "user", "content": "fox"}])))
    (follows,) = first.generate(max_new_tokens=1).token_ids
    never = [[follows, token_id] for token_id in vocabulary]
    stream = chat.reply("fox", bad_words_ids=never, eos_token_id=[], **OPTIONS)
    with pytest.raises(OptionError):
        list(stream)
    assert chat.turns == turns
    say(chat, "quick")
    assert [turn["content"] for turn in chat.turns[::2]] == ["A dog", "quick"]


@pytest.fixture(scope="module")
def bos_folder(random_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model whose tokenizer puts a BOS before and an EOS behind every text."""
    from pocketgpt_export import export

    checkpoint = tmp_path_factory.mktemp("bos") / "checkpoint"
    shutil.copytree(random_checkpoint, checkpoint)
    path = checkpoint / "tokenizer.json"
    changed = tokenizers.Tokenizer.from_file(str(path))
    changed.post_processor = tokenizers.processors.TemplateProcessing(
        single=f"{END} $A {END}", special_tokens=[(END, 0)]
    )
    changed.save(str(path))
    path = checkpoint / "tokenizer_config.json"
    template = "{{ bos_token }}{% for m in messages %}{{ m.content }}{{ eos_token }}{% endfor %}"
    fields = {"bos_token": END, "eos_token": END, "chat_template": template}
    path.write_text(json.dumps(json.loads(path.read_text("utf-8")) | fields), "utf-8")
    export(checkpoint, checkpoint.parent / "folder")
    return checkpoint.parent / "folder"


def test_a_rendered_template_gets_no_other_special_tokens(bos_folder: Path) -> None:
    model = pocketgpt.load(bos_folder)
    chat = Chat(model, read_format(bos_folder))
    say(chat, "A dog")
    reference = AutoTokenizer.from_pretrained(bos_folder)
    turns = [{"role": "user", "content": "A dog"}]
    prompt = list(reference.apply_chat_template(turns, add_generation_prompt=True))
    assert prompt.count(0) == 2
    assert chat.session.token_ids[: len(prompt)] == prompt


def test_a_session_has_a_bos_at_its_beginning_alone(bos_folder: Path) -> None:
    model = pocketgpt.load(bos_folder)
    session = model.session()
    session.append("Once upon")
    session.append(" a time")
    reference = AutoTokenizer.from_pretrained(bos_folder)
    parts = [reference.encode(text, add_special_tokens=False) for text in ("Once upon", " a time")]
    assert reference.encode("Once upon") == [0, *parts[0], 0]
    assert session.token_ids == [0, *parts[0], *parts[1]]


def test_chatting_line_by_line(cli: Cli, random_folder: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(random_folder, tmp_path / "folder"))
    path = folder / "tokenizer_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "eos_token": END}), "utf-8")
    lines = "A dog\n/new\n\nA dog\n" + "z" * 70 + "\n"
    flags = ["--max-new-tokens", "3", "--eos-token-id", "0"]
    code, answers, errors = cli("chat", folder, *flags, stdin=lines)
    assert code == 0
    assert answers == answers[: len(answers) // 2] * 2 != ""
    assert "say it shorter" in errors


def test_the_command_goes_on_after_an_error_in_an_answer(
    cli: Cli,
    random_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder = Path(shutil.copytree(random_folder, tmp_path / "folder"))
    path = folder / "tokenizer_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "eos_token": END}), "utf-8")
    reply = Chat.reply

    def fails_on_fox(self: Chat, text: str, **options: Any) -> Stream:
        stream = reply(self, text, **options)
        if text != "fox":
            return stream

        def pieces(cancelled: object, done: object) -> Iterator[str]:
            yield "half an ans"
            raise OptionError("no token can follow")

        return Stream(pieces)

    monkeypatch.setattr(Chat, "reply", fails_on_fox)
    code, answers, errors = cli(
        "chat", folder, "--max-new-tokens", "3", stdin="A dog\nfox\nquick\n"
    )
    assert code == 0
    assert errors == "error: no token can follow\n"
    first, second, _ = answers.split("\n", 2)
    assert (bool(first), second) == (True, "half an ans")
    assert answers.endswith("\n")
