"""The options of a generation as flags, for every verb that generates."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Annotated, Any

import typer

from ..generation.option_kinds import Kind
from ..generation.options import GenerationOptions
from .flags import with_flags

_OPTIONS = {
    field.name: field for field in dataclasses.fields(GenerationOptions) if field.metadata["flag"]
}


def with_generation_flags(verb: Callable[..., None]) -> Callable[..., None]:
    """Give a verb a flag for each option; those given reach it as its argument `generation`."""
    flags = {name: _flag(field) for name, field in _OPTIONS.items()}
    return with_flags(verb, "generation", flags, _given)


def _given(flags: dict[str, Any]) -> dict[str, Any]:
    """Return the options that were given.

    Raises:
        OptionError: a value cannot be read.
    """
    return {
        name: _OPTIONS[name].metadata["kind"].parse(name, value)
        for name, value in flags.items()
        if value not in (None, [])
    }


def without_effect(generation: dict[str, Any]) -> list[str]:
    """Return the given options that change nothing, as nothing is drawn."""
    if generation.get("do_sample"):
        return []
    return sorted(name for name in generation if _OPTIONS[name].metadata["drawing"])


def _flag(field: dataclasses.Field[Any]) -> tuple[Any, None]:
    """Return how typer is to read an option, as its declaration describes it; no default."""
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
    return Annotated[value | None, typer.Option(declared, help=text, show_default=False)], None
