"""How a folder writes a conversation: its chat template, rendered as transformers renders it."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, NoReturn

from ..errors import ModelFolderError, OptionError
from ..extras import needs_extra
from ..folder.files import ModelFiles, StoredFile, model_files
from ..folder.json_file import read_bounded, read_json_object

if TYPE_CHECKING:
    from jinja2 import Environment

Turn = Mapping[str, str]  # "role" and "content", as chat templates have them
Format = Callable[[Sequence[Turn]], str]

LONGEST_TEXT = 1 << 24  # characters of a conversation; the longest contexts take a hundredth

# The tokens that transformers hands to a template by name, and what GPT-2's class has for them.
_NAMED_TOKENS = ("bos", "eos", "unk", "sep", "pad", "cls", "mask")
_GPT2_TOKENS = dict.fromkeys(("bos_token", "eos_token", "unk_token"), "<|endoftext|>")


def has_template(folder: str | os.PathLike[str]) -> bool:
    """Whether a model says how a conversation is written, where `read_format` might guess.

    Raises:
        ModelFolderError: its tokenizer_config.json cannot be read.
    """
    files = model_files(folder)
    file = files.find("tokenizer_config.json")
    config = read_json_object(file) if file.exists() else {}
    return bool(config.get("chat_template")) or files.find("chat_template.jinja").exists()


def read_format(folder: str | os.PathLike[str]) -> Format:
    """Return how a model folder or a package writes a conversation: by its template, or DialoGPT's.

    The template is chat_template.jinja, or `chat_template` in tokenizer_config.json; of several
    named ones the one named "default". DialoGPT ends every turn with the EOS token:
    https://huggingface.co/microsoft/DialoGPT-medium

    Returns:
        A function from turns to text. It raises an OptionError where the template refuses these
        turns, and a ModelFolderError where the template itself is at fault.

    Raises:
        ModelFolderError: there is neither a template nor an EOS token, or the template is broken.
        MissingExtraError: there is a template, and jinja2 is not installed.
    """
    files = model_files(folder)
    path = files.find("tokenizer_config.json")
    config = read_json_object(path) if path.exists() else {}
    tokens = _special_tokens(files, config)
    own = files.find("chat_template.jinja")
    if own.exists():
        return _compile(own, _read_text(own), tokens)
    if template := config.get("chat_template"):
        return _compile(path, _pick(path, template), tokens)
    eos = tokens.get("eos_token")
    if not eos:
        raise ModelFolderError(
            f"{path} has neither a chat_template nor an eos_token, which ends DialoGPT's turns"
        )
    return lambda turns: "".join(turn["content"] + eos for turn in turns)


def _compile(path: StoredFile, template: str, tokens: Mapping[str, Any]) -> Format:
    """Return what renders a template; `path` is the file that errors name."""
    with needs_extra("chat"):
        from jinja2 import TemplateError, TemplateSyntaxError

    class RefusalError(TemplateError):
        """What `raise_exception` raises: the template's own word on the turns."""

    def raise_exception(message: object) -> NoReturn:
        raise RefusalError(str(message))

    def fault(error: Exception) -> ModelFolderError:
        reason = " ".join(str(error).split()) or type(error).__name__
        return ModelFolderError(f"{path}: the chat template is broken: {reason}")

    environment = _environment()
    environment.globals["raise_exception"] = raise_exception
    try:
        compiled = environment.from_string(template)
    except TemplateSyntaxError as error:
        raise fault(Exception(f"line {error.lineno}: {error.message}")) from None
    except Exception as error:  # a template too deep for Python's compiler, among others
        raise fault(error) from None

    def render(turns: Sequence[Turn]) -> str:
        try:
            return _joined(
                compiled.generate(
                    messages=turns, tools=None, documents=None, add_generation_prompt=True, **tokens
                )
            )
        except RefusalError as error:
            reason = " ".join(str(error).split())
            raise OptionError(f"{path}: the chat template refuses these turns: {reason}") from None
        except Exception as error:  # a template is a program: it may raise anything
            raise fault(error) from None

    return render


def _joined(pieces: Iterable[str]) -> str:
    """Return what a template writes, as far as a conversation may go.

    Raises:
        ValueError: it goes on and on.
    """
    written, length = [], 0
    for piece in pieces:
        written.append(piece)
        length += len(piece)
        if length > LONGEST_TEXT:
            raise ValueError(f"it writes more than {LONGEST_TEXT:,} characters")
    return "".join(written)


def _environment() -> Environment:
    """Return a sandbox with what templates may use in transformers.

    As `_compile_jinja_template` of transformers' utils/chat_template_utils.py.
    """
    from jinja2 import nodes
    from jinja2.ext import Extension, loopcontrols
    from jinja2.parser import Parser
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    class GenerationBlock(Extension):
        """`{% generation %}`, which marks answers for training, and leaves them as they are."""

        tags = {"generation"}  # noqa: RUF012  # as Jinja declares it

        def parse(self, parser: Parser) -> nodes.Node:
            line = next(parser.stream).lineno
            body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
            call = self.call_method("_render")
            return nodes.CallBlock(call, [], [], body).set_lineno(line)

        def _render(self, caller: Callable[[], str]) -> str:
            return caller()

    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[GenerationBlock, loopcontrols]
    )
    environment.filters["tojson"] = _to_json
    environment.globals["strftime_now"] = _strftime_now
    return environment


def _to_json(
    value: object,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """Return plain JSON, where Jinja's own filter writes it for HTML."""
    return json.dumps(
        value,
        ensure_ascii=ensure_ascii,
        indent=indent,
        separators=separators,
        sort_keys=sort_keys,
    )


def _strftime_now(form: str) -> str:
    return datetime.now().strftime(form)


def _pick(path: StoredFile, template: object) -> str:
    """Return the template of a `chat_template` field, a text or several by their names."""
    if isinstance(template, str):
        return template
    named: dict[object, object] = template if isinstance(template, dict) else {}
    if isinstance(template, list) and all(isinstance(entry, dict) for entry in template):
        named = {entry.get("name"): entry.get("template") for entry in template}
    default = named.get("default")
    if not isinstance(default, str):
        names = ", ".join(str(name) for name in named) or "none"
        raise ModelFolderError(
            f"{path}: chat_template should be a text, or a list of named ones with one named "
            f"default; names: {names}"
        )
    return default


def _read_text(path: StoredFile) -> str:
    try:
        return read_bounded(path)
    except (OSError, ValueError) as error:
        raise ModelFolderError(f"{path} cannot be read: {error}") from None


def _special_tokens(files: ModelFiles, config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the special tokens' texts by the names that templates know them by.

    special_tokens_map.json is before tokenizer_config.json where that is of the time when it held
    no tokens.
    """
    older = files.find("special_tokens_map.json")
    fields = dict(config)
    if "added_tokens_decoder" not in config and older.exists():
        fields |= read_json_object(older)
    if str(config.get("tokenizer_class")).removesuffix("Fast") == "GPT2Tokenizer":
        fields = _GPT2_TOKENS | fields
    extra = fields.get("extra_special_tokens")
    extra = extra if isinstance(extra, dict) else {}
    names = [*(f"{name}_token" for name in _NAMED_TOKENS), *extra]
    fields |= extra
    tokens: dict[str, Any] = {
        name: text for name in names if (text := _token_text(fields.get(name)))
    }
    additional = fields.get("additional_special_tokens")
    if isinstance(additional, list) and additional:
        tokens["additional_special_tokens"] = [_token_text(token) for token in additional]
    return tokens


def _token_text(token: object) -> str:
    """Return a special token's text, which may be written out or in an object."""
    return str(token.get("content", "")) if isinstance(token, dict) else str(token or "")
