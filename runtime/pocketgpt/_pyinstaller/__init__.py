"""What PyInstaller has to know of PocketGPT and of ONNX Runtime; it finds this by an entry point.

May import: nothing of ours.
"""

from pathlib import Path


def hook_dirs() -> list[str]:
    """Return where the hooks lie: `pyinstaller40`'s `hook-dirs` in pyproject.toml names this."""
    return [str(Path(__file__).parent)]
