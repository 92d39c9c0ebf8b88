"""`pocketgpt devices`: what this machine can run models on."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.box import SIMPLE
from rich.table import Table

from ..engine.verdicts import SelfTest
from ..measure.devices import Devices
from ..measure.devices import devices as look
from .console import print_json, result_console
from .options import JsonOption


def devices(
    folder: Annotated[
        Path | None,
        typer.Argument(
            metavar="[FOLDER]",
            help="A model folder, to show which of its variants suit, and what self-tests found.",
        ),
    ] = None,
    json: JsonOption = False,
) -> None:
    """Show what this machine has to run models on, and which package adds what is missing."""
    found = look(folder)
    if json:
        print_json(found)
        return
    result_console.print(_table(found))
    for line in _lines(found):
        result_console.print(line, highlight=False, soft_wrap=True)


def _table(found: Devices) -> Table:
    """Return a provider a row: those that are there, then the others."""
    table = Table(box=SIMPLE, padding=(0, 1, 0, 0), pad_edge=False)
    table.add_column("provider", no_wrap=True)
    table.add_column("here", no_wrap=True)
    table.add_column("variants")
    table.add_column("devices, or what brings it", overflow="fold")
    for one in sorted(found.providers, key=lambda one: not one.available):
        told = ", ".join(one.devices) if one.available else one.missing
        table.add_row(one.name, "yes" if one.available else "no", ", ".join(one.variants), told)
    return table


def _lines(found: Devices) -> list[str]:
    verdicts = [f"self-test: {_verdict(test)}" for one in found.providers for test in one.selftests]
    return [
        f"ONNX Runtime {found.onnxruntime}",
        *verdicts,
        *(f"warning: {line}" for line in found.conflicts),
    ]


def _verdict(test: SelfTest) -> str:
    options = "".join(f" {name}={value}" for name, value in test.options.items())
    worst = f"logits within {max(test.differences.values()):.1e}"
    held = f"FAILED in {', '.join(test.failed)}" if test.failed else f"ok, {worst}"
    cpu = f", {len(test.cpu_nodes)} nodes on the CPU" if test.cpu_nodes else ""
    return (
        f"{test.variant} on {test.provider}{options} ({test.device}, ONNX Runtime "
        f"{test.onnxruntime}): {held}{cpu}"
    )
