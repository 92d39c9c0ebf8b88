"""Conversations: the turns' format, and nothing computed twice."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

import pocketgpt
from pocketgpt import ModelFolderError, OptionError
from pocketgpt.sessions.chat import Chat, read_format

END = "<|endoftext|>"
OPTIONS = {"max_new_tokens": 5}


def folder_with(tmp_path: Path, **config: object) -> Path:
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config), "utf-8")
    return tmp_path


def test_dialogpts_format_without_a_template(tmp_path: Path) -> None:
    written = read_format(folder_with(tmp_path, eos_token={"content": END}))
    turns = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Yes?"}]
    assert written(turns) == f"Hi{END}Yes?{END}"


@pytest.mark.parametrize("own_file", [True, False])
def test_the_folders_template(tmp_path: Path, own_file: bool) -> None:
    template = (
        "{{ bos_token }}{% for m in messages %}{{ m.role }}: {{ m.content }}{{ eos_token }}"
        "{% endfor %}{% if add_generation_prompt %}assistant:{% endif %}"
    )
    config = {"eos_token": END, "bos_token": "<b>", "chat_template": template}
    if own_file:
        (tmp_path / "chat_template.jinja").write_text(template, "utf-8")
        del config["chat_template"]
    written = read_format(folder_with(tmp_path, **config))
    assert written([{"role": "user", "content": "Hi"}]) == f"<b>user: Hi{END}assistant:"


def test_no_format_at_all_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelFolderError, match="neither a chat_template nor an eos_token"):
        read_format(tmp_path)


def say(chat: Chat, text: str) -> str:
    stream = chat.reply(text, **OPTIONS)
    answer = "".join(stream)
    chat.remember(answer)
    return answer


def test_a_turn_goes_on_from_the_cache(model: pocketgpt.Model) -> None:
    chat = Chat(model, lambda turns: "".join(turn["content"] + END for turn in turns))
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
    chat = Chat(model, lambda turns: "".join(turn["content"] + END for turn in turns))
    for count in range(8):
        say(chat, f"fox {count} " + "z" * 10)
    assert chat.turns[-2]["content"].startswith("fox 7")
    assert len(chat.turns) < 16
    turns = list(chat.turns)
    with pytest.raises(OptionError, match="say it shorter"):
        Chat(model, lambda turns: turns[0]["content"]).reply("z" * 70, **OPTIONS)
    assert chat.turns == turns


def test_chatting_line_by_line(
    pocketgpt_command: Callable[..., tuple[int, str, str]], random_folder: Path, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(random_folder, tmp_path / "folder"))
    path = folder / "tokenizer_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "eos_token": END}), "utf-8")
    lines = "A dog\n/new\n\nA dog\n" + "z" * 70 + "\n"
    flags = ["--max-new-tokens", "3", "--eos-token-id", "0"]
    code, answers, errors = pocketgpt_command("chat", folder, *flags, stdin=lines)
    assert code == 0
    assert answers == answers[: len(answers) // 2] * 2 != ""
    assert "say it shorter" in errors
