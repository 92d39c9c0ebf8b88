"""The options of a generation as flags, for every verb that generates."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable
from typing import Annotated, Any

import typer

from ..generation.option_kinds import Kind
from ..generation.options import GenerationOptions

_OPTIONS = {
    field.name: field for field in dataclasses.fields(GenerationOptions) if field.metadata["flag"]
}


def with_generation_flags(verb: Callable[..., None]) -> Callable[..., None]:
    """Give a verb a flag for each option; those that were given reach it as its last argument."""
    own = inspect.signature(verb, eval_str=True)
    parameters = [p for name, p in own.parameters.items() if name != "generation"]
    flags = [_flag(field) for field in _OPTIONS.values()]

    def run(**arguments: Any) -> None:
        given = {name: arguments.pop(name) for name in _OPTIONS}
        generation = {name: value for name, value in given.items() if value not in (None, [])}
        verb(**arguments, generation=_parse(generation))

    run.__name__, run.__doc__ = verb.__name__, verb.__doc__
    run.__annotations__ = {p.name: p.annotation for p in [*parameters, *flags]}
    run.__signature__ = own.replace(parameters=[*parameters, *flags])  # type: ignore[attr-defined]
    return run


def without_effect(generation: dict[str, Any]) -> list[str]:
    """Return the given options that change nothing, as nothing is drawn."""
    if generation.get("do_sample"):
        return []
    return sorted(name for name in generation if _OPTIONS[name].metadata["drawing"])


def _flag(field: dataclasses.Field[Any]) -> inspect.Parameter:
    """Return a verb's parameter for an option, as its declaration describes it."""
    kind: Kind = field.metadata["kind"]
    flag = f"--{field.name.replace('_', '-')}"
    declared = f"{flag}/--no-{flag[2:]}" if kind.flag is bool else flag
    text = field.metadata["help"]
    if form := kind.form:
        text += f"  As {form}."
    if kind.flag in (list[int], list[str]):
        text += "  Repeat for more."
    if kind.flag in (int, float, str) and field.default is not None:
        text += f"  [default: {str(field.default).lower()}]"
    value: Any = kind.flag
    annotation = Annotated[value | None, typer.Option(declared, help=text, show_default=False)]
    keyword = inspect.Parameter.KEYWORD_ONLY
    return inspect.Parameter(field.name, keyword, default=None, annotation=annotation)


def _parse(generation: dict[str, Any]) -> dict[str, Any]:
    """Turn what a flag cannot say by itself into the option's value.

    Raises:
        OptionError: a value cannot be read.
    """
    return {
        name: _OPTIONS[name].metadata["kind"].parse(name, given)
        for name, given in generation.items()
    }
