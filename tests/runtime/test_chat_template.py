"""Chat templates as transformers renders them; and what a broken one, or a refusal, ends in."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer

from pocketgpt import ModelFolderError, OptionError
from pocketgpt.text.chat_template import Turn, read_format

END = "<|endoftext|>"
TURNS: list[Turn] = [
    {"role": "user", "content": "Say <b> & 'é'\n"},
    {"role": "assistant", "content": "  yes "},
    {"role": "user", "content": "again"},
]
LOOP = "{% for m in messages %}{{ m['role'] }}: {{ m.content }}\n{% endfor %}"
TEMPLATES = {
    "loop": LOOP,
    "a generation prompt": LOOP + "{% if add_generation_prompt %}assistant:{% endif %}",
    "blocks on lines of their own": " {% for m in messages %}\n {{ m.content }}\n {% endfor %}\n",
    "tokens by name": "{{ bos_token }}{{ eos_token }}{{ unk_token }}{{ pad_token }}{{ sep_token }}",
    "other tokens": "{{ additional_special_tokens }}{{ image_token }}",
    "tojson": "{{ messages | tojson }} {{ messages[0] | tojson(indent=2) }}",
    "tojson, sorted": "{{ messages[0] | tojson(sort_keys=True, separators=(',', ':')) }}",
    "strftime_now": "{{ strftime_now('%Y') | length }} {{ strftime_now('%%') }}",
    "break and continue": "{% for m in messages %}{% if loop.index == 2 %}{% continue %}{% endif %}"
    "{{ loop.index }}{% if loop.index > 2 %}{% break %}{% endif %}{% endfor %}",
    "generation": "{% for m in messages %}{% generation %}[{{ m.content }}]{% endgeneration %}"
    "{% endfor %}",
    "a refusal not reached": "{% if messages | length > 9 %}{{ raise_exception('no') }}{% endif %}"
    + LOOP,
    "what is not given": "{{ tools is none }}{{ documents is none }}{{ nothing }}",
    "a namespace": "{% set ns = namespace(n=0) %}{% for m in messages %}{% set ns.n = ns.n + 1 %}"
    "{% endfor %}{{ ns.n }}",
    "a macro": "{% macro turn(m) %}<{{ m.role | upper }}>{% endmacro %}"
    "{% for m in messages %}{{ turn(m) }}{% endfor %}",
}
NAMED: dict[str, Any] = {
    "bos_token": "<b>",
    "eos_token": {"content": END, "__type": "AddedToken", "lstrip": False, "normalized": False},
    "pad_token": "<p>",
    "additional_special_tokens": ["<u>", "<v>"],
    "extra_special_tokens": {"image_token": "<i>"},
}


def folder_with(folder: Path, **config: object) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "tokenizer_config.json").write_text(json.dumps(config), "utf-8")
    return folder


def transformers_text(folder: Path, turns: list[Turn] = TURNS) -> str:
    tokenizer = AutoTokenizer.from_pretrained(folder)
    text: str = tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
    return text


@pytest.mark.parametrize("name", TEMPLATES)
@pytest.mark.parametrize("place", ["the configuration", "a file", "a list", "a map"])
def test_rendered_as_by_transformers(
    tiny_folder: Path, tmp_path: Path, name: str, place: str
) -> None:
    config: dict[str, Any] = {"tokenizer_class": "PreTrainedTokenizerFast", **NAMED}
    shutil.copy(tiny_folder / "tokenizer.json", tmp_path)
    if place == "a file":
        (tmp_path / "chat_template.jinja").write_text(TEMPLATES[name], "utf-8")
    elif place == "the configuration":
        config["chat_template"] = TEMPLATES[name]
    elif place == "a map":
        config["chat_template"] = {"rag": "another", "default": TEMPLATES[name]}
    else:
        other = {"name": "rag", "template": "another"}
        config["chat_template"] = [other, {"name": "default", "template": TEMPLATES[name]}]
    folder_with(tmp_path, **config)
    assert read_format(tmp_path)(TURNS) == transformers_text(tmp_path)


@pytest.mark.parametrize("where", ["nowhere", "the map", "both", "the map, passed over"])
def test_special_tokens_as_transformers_takes_them(
    tiny_folder: Path, tmp_path: Path, where: str
) -> None:
    """GPT-2's class has tokens of its own, and older folders have them in a second file."""
    shutil.copy(tiny_folder / "tokenizer.json", tmp_path)
    config: dict[str, Any] = {"chat_template": TEMPLATES["tokens by name"]}
    if where != "nowhere":
        tokens = {"bos_token": "<m>", "eos_token": {"content": "<n>"}, "pad_token": "<q>"}
        (tmp_path / "special_tokens_map.json").write_text(json.dumps(tokens), "utf-8")
    if where == "both":
        config["bos_token"] = "<b>"
    if where == "the map, passed over":
        config["added_tokens_decoder"] = {"0": {"content": END, "special": True}}
    folder_with(tmp_path, tokenizer_class="GPT2Tokenizer", **config)
    for name in ("vocab.json", "merges.txt"):
        if (tiny_folder / name).exists():
            shutil.copy(tiny_folder / name, tmp_path)
    assert read_format(tmp_path)(TURNS) == transformers_text(tmp_path)


def test_dialogpts_format_without_a_template(tmp_path: Path) -> None:
    written = read_format(folder_with(tmp_path, eos_token={"content": END}))
    turns: list[Turn] = [
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "Yes?"},
    ]
    assert written(turns) == f"Hi{END}Yes?{END}"


def test_no_format_at_all_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelFolderError, match="neither a chat_template nor an eos_token"):
        read_format(tmp_path)


@pytest.mark.parametrize(
    ("template", "says"),
    [
        ("{% for m in messages %}{{ m", "line 1: "),
        ("{{ messages[0] }}\n{% fro %}", "line 2: Encountered unknown tag 'fro'"),
        ("{{ x | no_such_filter }}", "no_such_filter"),
        ("{{ " + "(" * 3000 + "1" + ")" * 3000 + " }}", ""),
        ("{{ nothing.at.all }}", "'nothing' is undefined"),
        ("{{ messages[9].content }}", "has no element 9"),
        ("{{ 1 / 0 }}", "division by zero"),
        ("{{ 'a' + 1 }}", ""),
        ("{% macro again() %}{{ again() }}{% endmacro %}{{ again() }}", "recursion"),
        ("{{ messages.append(1) }}", "unsafe|not safely callable"),
        ("{{ ''.__class__.__mro__ }}", "unsafe"),
        ("{{ range(10000000) | list }}", "Range too big"),
        ("{% include 'other' %}", "no loader"),
        (7, "should be a text"),
        ([{"name": "rag", "template": "x"}], "one named default; names: rag"),
        ([{"name": "default"}], "one named default"),
        ({"rag": "x"}, "one named default; names: rag"),
        ({"default": 7}, "one named default"),
        ("{% for i in range(99999) %}{{ 'x' * 999 }}{% endfor %}", "writes more than 16,777,216"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_a_broken_template_is_one_line_that_names_the_file(
    tmp_path: Path, template: object, says: str
) -> None:
    folder = folder_with(tmp_path, chat_template=template)
    with pytest.raises(ModelFolderError) as caught:
        read_format(folder)(TURNS)
    message = str(caught.value)
    assert message.startswith(str(folder / "tokenizer_config.json"))
    assert "\n" not in message
    assert re.search(says, message)


def test_a_template_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "chat_template.jinja").write_bytes(b"caf\xe9")
    with pytest.raises(ModelFolderError, match=r"chat_template\.jinja cannot be read"):
        read_format(tmp_path)


def test_raise_exception_is_about_the_turns(tmp_path: Path) -> None:
    (tmp_path / "chat_template.jinja").write_text(
        "{% if messages[0].role != 'user' %}{{ raise_exception('roles must\n alternate') }}"
        "{% endif %}fine"
    )
    written = read_format(tmp_path)
    assert written(TURNS) == "fine"
    with pytest.raises(OptionError, match=r"jinja: the .* refuses these turns: roles must alt"):
        written(TURNS[1:])
