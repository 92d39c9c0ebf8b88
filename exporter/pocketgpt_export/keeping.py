"""What an export keeps of the folder that it replaces."""

from __future__ import annotations

import shutil
from pathlib import Path

from pocketgpt import ModelFolderError
from pocketgpt.folder.card import CARD
from pocketgpt.folder.manifest import recorded_states
from pocketgpt.folder.neighbours import neighbours_of


def keep_card(folder: Path, staging: Path) -> None:
    """Copy a README.md that somebody wrote for the folder which `staging` is to replace."""
    card = folder / CARD
    if not card.is_file():
        return
    try:
        states = recorded_states(folder)
        theirs = CARD not in neighbours_of(folder, states[0], states)
    except ModelFolderError:  # nothing says that it is ours
        theirs = True
    if theirs:
        shutil.copyfile(card, staging / CARD)
