"""What PyInstaller should take along of PocketGPT and ONNX Runtime, and what not.

PyInstaller finds these hooks by the entry point `pyinstaller40` and runs them itself, where an app
is built; nothing else imports them.

May import: nothing of ours.
"""

from __future__ import annotations

from pathlib import Path


def get_hook_dirs() -> list[str]:
    """Return the folder of the hooks, as PyInstaller asks for it."""
    return [str(Path(__file__).parent)]
