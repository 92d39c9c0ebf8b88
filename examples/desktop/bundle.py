"""Make one program of `tales.py` and a model: PyInstaller, and its hook of PocketGPT's own.

    python examples/desktop/bundle.py MODEL OUT [--variant int8] [--folder]

`OUT/tales` is one file, which unpacks itself whenever it is started; with `--folder` it is a
folder, which starts sooner. MODEL is a model folder, or a `.pocketgpt` file.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import PyInstaller.__main__

import pocketgpt

HERE = Path(__file__).resolve().parent
# What numpy's functions import that nobody calls here: its Fortran compiler, its printed settings.
UNUSED = ("charset_normalizer", "numpy.f2py", "yaml")


def build(model: Path, out: Path, variant: str, *, folder: bool) -> Path:
    """Build the program; return its path."""
    with tempfile.TemporaryDirectory() as work:
        packaged = Path(work, "model.pocketgpt")
        pocketgpt.package(model, packaged, [variant])
        PyInstaller.__main__.run(
            [
                str(HERE / "tales.py"),
                "--onedir" if folder else "--onefile",
                f"--add-data={packaged}:.",
                "--name=tales",
                *(f"--exclude-module={name}" for name in UNUSED),
                "--noconfirm",
                "--log-level=WARN",
                f"--distpath={out}",
                f"--workpath={work}/work",
                f"--specpath={work}",
            ]
        )
    return out / "tales" / "tales" if folder else out / "tales"


def size(program: Path) -> int:
    """Return the bytes of a program: of the file, or of its whole folder."""
    folder = program.with_name("_internal")
    inside = [path for path in folder.rglob("*") if path.is_file() and not path.is_symlink()]
    return sum(path.stat().st_size for path in [program, *inside])


def main() -> None:
    parser = argparse.ArgumentParser(description="Make one program of tales.py and a model.")
    parser.add_argument("model", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--variant", default="int8")
    parser.add_argument("--folder", action="store_true")
    given = parser.parse_args()
    program = build(given.model, given.out, given.variant, folder=given.folder)
    print(f"{program}: {size(program) / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
