"""What a checkpoint's own model card says of its licence and languages."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from huggingface_hub.repocard import metadata_load

from pocketgpt.folder.card import CARD
from pocketgpt.folder.fields import is_line


@dataclass(frozen=True)
class CardFacts:
    """A licence and languages by the hub's words: `apache-2.0`, `en`."""

    license: str | None = None
    languages: tuple[str, ...] = ()


def read_card_facts(folders: Iterable[Path]) -> CardFacts:
    """Read the card of the first folder that has one; a card that cannot be read says nothing."""
    path = next((folder / CARD for folder in folders if (folder / CARD).is_file()), None)
    if path is None:
        return CardFacts()
    try:
        said = metadata_load(path) or {}
    except Exception:  # YAML's errors, and those of files in other encodings
        return CardFacts()
    named = [*_lines(said.get("license")), None]
    return CardFacts(named[0], tuple(_lines(said.get("language"))))


def _lines(value: Any) -> list[str]:
    """Return a field's texts, be it one or a list of them."""
    values = value if isinstance(value, list) else [value]
    return [one for one in values if isinstance(one, str) and one and is_line(one)]
