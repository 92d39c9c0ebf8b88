"""The reference pages have what there is: verbs, names, fields of the manifest, files."""

from __future__ import annotations

import dataclasses
import re

import pytest

import pocketgpt
import pocketgpt.bulk
import pocketgpt.chat
import pocketgpt_export
import pocketgpt_quantize
from pocketgpt.cli.help_page import help_of, verbs, with_help
from pocketgpt.folder import manifest
from pocketgpt.folder.file_record import FileRecord
from pocketgpt.folder.fingerprint import Answer, Fingerprint
from pocketgpt.folder.neighbours import NEIGHBOURS

from ..conftest import ROOT, Cli

DOCS = ROOT / "docs"
RECORDS = {
    "Manifest": manifest.Manifest,
    "Variant": manifest.Variant,
    "File record": FileRecord,
    "Int8 cache": manifest.Int8Cache,
    "Fingerprint": Fingerprint,
    "Answer": Answer,
}


def section(page: str, heading: str) -> str:
    """Return what a page says below a heading, up to the next one."""
    text = (DOCS / page).read_text("utf-8")
    found = re.search(rf"^#+ {re.escape(heading)}$(.*?)(?=^#+ |\Z)", text, re.MULTILINE | re.DOTALL)
    assert found is not None, f"docs/{page} has no heading {heading!r}"
    return found[1]


def first_column(table: str) -> list[str]:
    return re.findall(r"^\| `([^`]+)`", table, re.MULTILINE)


@pytest.mark.parametrize("heading", RECORDS)
def test_every_field_of_the_manifest_is_explained(heading: str) -> None:
    fields = {field.name for field in dataclasses.fields(RECORDS[heading])}
    listed = first_column(section("folder.md", heading))
    assert sorted(listed) == sorted(fields)


def test_every_file_of_a_folder_is_explained() -> None:
    rows = section("folder.md", "Files")
    files = {manifest.MANIFEST, *manifest.RUNTIME_FILES, *manifest.TEXTS, *NEIGHBOURS}
    assert all(re.search(rf"^\|.*`{re.escape(name)}`.*\|", rows, re.MULTILINE) for name in files)
    graphs = (manifest.variant_path, manifest.adapter_graph_path, manifest.int8_cache_path)
    for name in (make("VARIANT") for make in graphs):
        assert name in rows


def test_the_example_of_a_folder_has_its_figures() -> None:
    """The figures of the quality table are those that measuring gives."""
    listed = re.findall(r"`(\w+)`", section("folder.md", "Quality"))
    from pocketgpt_quantize.measure import labels, quality

    for source in (quality.figures, labels.label_figures):
        for name in re.findall(r"`(\w+)`", str(source.__doc__)):
            if name not in ("fp32",):
                assert name in listed, name


def test_the_commands_page_is_up_to_date() -> None:
    """Else run `python -m pocketgpt.cli.help_page docs/commands.md`."""
    page = (DOCS / "commands.md").read_text("utf-8")
    assert page == with_help(page)
    assert re.findall(r"^## (.*)$", page, re.MULTILINE) == verbs()


@pytest.mark.parametrize("verb", verbs())
def test_the_commands_page_has_what_a_terminal_shows(verb: str, cli: Cli) -> None:
    done = cli(verb, "--help")
    assert done.returncode == 0
    _, options, page = help_of(verb).partition("[OPTIONS]")  # before it is the program's name
    assert options
    assert page.split() == done.stdout.partition("[OPTIONS]")[2].split()
    assert "\x1b" not in help_of(verb)


@pytest.mark.parametrize(
    "package",
    [pocketgpt, pocketgpt.bulk, pocketgpt.chat, pocketgpt_export, pocketgpt_quantize],
    ids=lambda package: package.__name__,
)
def test_the_python_page_has_every_public_name(package: object) -> None:
    name = getattr(package, "__name__")  # noqa: B009  # a module's, which `object` lacks
    public = {one for one in getattr(package, "__all__") if not one.startswith("_")}  # noqa: B009
    page = (DOCS / "api.md").read_text("utf-8")
    listed = re.findall(rf"^::: {re.escape(name)}\.(\w+)$", page, re.MULTILINE)
    assert sorted(set(listed) - {"errors"}) == sorted(public)
