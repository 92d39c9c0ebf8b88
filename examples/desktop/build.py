"""Make one program of app.py and a model folder, by PyInstaller.

    python examples/desktop/build.py MODEL_FOLDER OUT

Run it in an environment that has `pocketgpt` and `pyinstaller` and nothing else: what is installed
beside them, PyInstaller may take along. pocketgpt brings the hooks.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import PyInstaller.__main__

HERE = Path(__file__).resolve().parent


def main() -> None:
    folder, out = (Path(argument).resolve() for argument in sys.argv[1:3])
    PyInstaller.__main__.run(
        [
            str(HERE / "app.py"),
            "--name=tales",
            "--onefile",
            "--clean",
            "--noconfirm",
            "--log-level=WARN",
            f"--add-data={folder}{os.pathsep}model",
            f"--distpath={out}",
            f"--workpath={out / 'work'}",
            f"--specpath={out / 'work'}",
        ]
    )
    program = next(path for path in out.glob("tales*") if path.is_file())
    print(f"{program}: {program.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
