"""The arrows between the rooms of the house: what each sub-package may import, and nothing else.

CONTRIBUTING.md has the picture. Imports inside functions and for type checkers alone count too.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from .conftest import ROOT

PACKAGES = {
    "pocketgpt": "runtime",
    "pocketgpt_export": "exporter",
    "pocketgpt_quantize": "quantize",
}
GROUND = {"errors", "extras", "processor", "validate", "_version", "_telemetry"}

# Room: the rooms below that it may import. A module outside sub-packages is a room by itself.
RUNTIME: dict[str, set[str]] = {
    **{room: GROUND - {room} for room in GROUND},
    "_pyinstaller": set(),
    "folder": GROUND,
    "text": GROUND | {"folder"},
    "engine": GROUND | {"folder"},
    "generation": GROUND | {"folder", "text", "engine"},
    "sessions": GROUND | {"folder", "text", "engine", "generation"},
    "tasks": GROUND | {"folder", "text", "engine", "generation"},
    "measure": GROUND | {"folder", "text", "engine", "generation", "tasks"},
    "chat": {"text", "sessions"},
    "model": GROUND | {"folder", "text", "engine", "generation", "sessions", "tasks", "measure"},
    "server": GROUND | {"folder", "text", "engine", "generation", "model"},
    "bulk": GROUND | {"folder", "text", "engine", "generation", "tasks", "measure", "model"},
    "cli": GROUND
    | {"folder", "text", "engine", "generation", "sessions", "tasks", "measure", "model", "chat"}
    | {"server", "bulk"},
}
EXPORTER: dict[str, set[str]] = {
    "source": set(),
    "graph": {"source"},
    "proof": {"source"},
}
QUANTIZER: dict[str, set[str]] = {
    "rounding": set(),
    "graph": {"rounding"},
    "observe": {"rounding", "graph"},
    "measure": {"observe"},
    "recipes": {"rounding", "graph", "observe", "measure", "job", "texts"},
}
ROOMS = {"pocketgpt": RUNTIME, "pocketgpt_export": EXPORTER, "pocketgpt_quantize": QUANTIZER}
# The runtime never imports the other two, but for the verbs of its command line.
OTHERS = {
    "pocketgpt": set(),
    "pocketgpt_export": {"pocketgpt"},
    "pocketgpt_quantize": {"pocketgpt"},
}


def modules() -> list[tuple[str, Path]]:
    return [
        (package, path)
        for package, folder in PACKAGES.items()
        for path in sorted((ROOT / folder / package).rglob("*.py"))
    ]


def imports(package: str, path: Path) -> Iterator[str]:
    """Yield the modules of ours that a file imports, by their full names."""
    inside = path.relative_to(ROOT / PACKAGES[package] / package)
    parents = [package, *inside.parts[:-1]]
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.split(".")[0] in PACKAGES)
        if isinstance(node, ast.ImportFrom):
            base = parents[: len(parents) - node.level + 1] if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            if module.split(".")[0] in PACKAGES:
                yield from (f"{module}.{alias.name}" for alias in node.names)


def room_of(package: str, module: str) -> str:
    """Return the room that a full name lies in; the package's own name for its face."""
    parts = module.split(".")
    here = ROOT / PACKAGES[package] / package
    inside = len(parts) > 1 and ((here / parts[1]).is_dir() or (here / f"{parts[1]}.py").is_file())
    return parts[1] if inside else package


@pytest.mark.parametrize(
    ("package", "path"),
    modules(),
    ids=lambda value: value.stem if isinstance(value, Path) else value,
)
def test_no_import_goes_against_the_arrows(package: str, path: Path) -> None:
    inside = path.relative_to(ROOT / PACKAGES[package] / package)
    room = inside.parts[0].removesuffix(".py")
    allowed = ROOMS[package].get(room)
    for module in imports(package, path):
        other = module.split(".")[0]
        if other != package:
            assert other in OTHERS[package] or room == "cli", module
        elif allowed is not None and (target := room_of(package, module)) != room:
            # `from . import __version__` and the like: the face of the package itself.
            assert target in allowed or target == package, module


def test_every_sub_package_says_what_it_may_import() -> None:
    for package, rooms in ROOMS.items():
        here = ROOT / PACKAGES[package] / package
        for folder in sorted(path for path in here.iterdir() if (path / "__init__.py").is_file()):
            assert folder.name in rooms, folder
            documented = ast.get_docstring(ast.parse((folder / "__init__.py").read_text("utf-8")))
            assert documented is not None
            assert folder.name == "cli" or "May import:" in documented, folder


@pytest.mark.parametrize("folder", ["examples", "benchmarks"])
def test_examples_and_benchmarks_use_the_public_door(folder: str) -> None:
    """But for those that change how a variant is made, or ask for a figure alone."""
    makers, doors = (
        {"machine.py", "quality.py", "peers.py"},
        {*PACKAGES, "pocketgpt.chat", "pocketgpt.bulk"},
    )
    for path in sorted((ROOT / folder).glob("*.py")):
        if path.name in makers:
            continue
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.module:
                assert node.module.split(".")[0] not in PACKAGES or node.module in doors, path
