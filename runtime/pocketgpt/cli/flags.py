"""Flags that several verbs have: declared once, handed over as one argument."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any


def with_flags(
    verb: Callable[..., None],
    argument: str,
    flags: Mapping[str, tuple[Any, Any]],
    made: Callable[[dict[str, Any]], Any],
) -> Callable[..., None]:
    """Give a verb more flags, which reach it together.

    Args:
        verb: what typer is to call.
        argument: the name of the verb's argument that takes what the flags come to.
        flags: by name an annotation, as typer reads it, and a default.
        made: makes the argument of what the flags were given, by name.
    """
    own = inspect.signature(verb, eval_str=True)
    keyword = inspect.Parameter.KEYWORD_ONLY
    parameters = [p for name, p in own.parameters.items() if name != argument]
    parameters += [
        inspect.Parameter(name, keyword, default=default, annotation=annotation)
        for name, (annotation, default) in flags.items()
    ]
    parameters.sort(key=lambda parameter: parameter.kind)

    def run(**arguments: Any) -> None:
        given = {name: arguments.pop(name) for name in flags}
        verb(**arguments, **{argument: made(given)})

    run.__name__, run.__doc__ = verb.__name__, verb.__doc__
    run.__annotations__ = {p.name: p.annotation for p in parameters}
    run.__signature__ = own.replace(parameters=parameters)  # type: ignore[attr-defined]
    return run
