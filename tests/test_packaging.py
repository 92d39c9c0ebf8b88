"""What is shipped: the wheel's names, the sdist without weights, and a light `import pocketgpt`."""

from __future__ import annotations

import configparser
import email
import importlib
import json
import subprocess
import sys
import tarfile
import zipfile
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = {"pocketgpt", "pocketgpt_export", "pocketgpt_quantize"}
WEIGHTS = {".safetensors", ".onnx", ".onnx_data", ".bin", ".pt", ".pth", ".gguf"}
HEAVY = {"torch", "transformers", "onnx", "onnx_ir", "onnxscript", "typer", "rich"}
MEGABYTE = 1_000_000


@dataclass(frozen=True)
class Distributions:
    """The two files of a release, built from the tree the way `make build` builds them."""

    wheel: Path
    sdist: Path

    @property
    def wheel_names(self) -> list[PurePosixPath]:
        with zipfile.ZipFile(self.wheel) as archive:
            return [PurePosixPath(name) for name in archive.namelist()]

    @property
    def sdist_names(self) -> list[PurePosixPath]:
        """Paths inside the sdist, without its one top folder."""
        with tarfile.open(self.sdist) as archive:
            paths = [PurePosixPath(member.name) for member in archive if member.isfile()]
        return [path.relative_to(path.parts[0]) for path in paths]

    @property
    def version(self) -> str:
        with zipfile.ZipFile(self.wheel) as archive:
            (name,) = (n for n in archive.namelist() if n.endswith(".dist-info/METADATA"))
            metadata = email.message_from_bytes(archive.read(name))
        return str(metadata["Version"])


def run(*command: str | Path, cwd: Path) -> str:
    """Run `command` and return its standard output; on failure show everything it wrote."""
    done = subprocess.run([*map(str, command)], cwd=cwd, capture_output=True, text=True)
    assert done.returncode == 0, f"{command} failed:\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Distributions:
    """Build the sdist, and the wheel from the sdist, without a network."""
    out = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", out, ROOT, cwd=out)
    (wheel,) = out.glob("*.whl")
    (sdist,) = out.glob("*.tar.gz")
    return Distributions(wheel, sdist)


def test_wheel_top_level_names(built: Distributions) -> None:
    dist_info = f"pocketgpt-{built.version}.dist-info"
    assert {path.parts[0] for path in built.wheel_names} == PACKAGES | {dist_info}


@pytest.mark.parametrize("package", sorted(PACKAGES))
def test_wheel_packages_are_typed(built: Distributions, package: str) -> None:
    assert PurePosixPath(package, "py.typed") in built.wheel_names


def test_wheel_carries_every_source_file(built: Distributions) -> None:
    sources = {
        PurePosixPath(path.relative_to(folder).as_posix())
        for folder in (ROOT / "runtime", ROOT / "exporter", ROOT / "quantize")
        for path in folder.rglob("*.py")
    }
    assert {path for path in built.wheel_names if path.suffix == ".py"} == sources


def test_pyinstaller_finds_the_hooks(built: Distributions) -> None:
    """By the wheel's entry point; `make test-desktop` builds a program with them."""
    with zipfile.ZipFile(built.wheel) as archive:
        (name,) = (n for n in archive.namelist() if n.endswith(".dist-info/entry_points.txt"))
        points = configparser.ConfigParser()
        points.read_string(archive.read(name).decode("utf-8"))
    module, _, function = points["pyinstaller40"]["hook-dirs"].partition(":")
    (folder,) = getattr(importlib.import_module(module), function)()
    hooks = {path.name for path in Path(folder).glob("hook-*.py")}
    assert hooks == {"hook-onnxruntime.py", "hook-pocketgpt.py"}
    assert {f"pocketgpt/_pyinstaller/{name}" for name in hooks} <= set(map(str, built.wheel_names))


def test_wheel_carries_the_license(built: Distributions) -> None:
    assert any(path.name == "LICENSE" for path in built.wheel_names)


def test_sdist_has_no_weights(built: Distributions) -> None:
    assert [path for path in built.sdist_names if path.suffix in WEIGHTS] == []
    models = {path.parts[1] for path in built.sdist_names if path.parts[0] == "models"}
    assert models <= {"recipe"}
    assert built.sdist.stat().st_size < 2 * MEGABYTE


@pytest.mark.parametrize(
    "path",
    ["pyproject.toml", "constraints.txt", "tests/test_packaging.py", "models/recipe/train.py"],
)
def test_sdist_carries_sources(built: Distributions, path: str) -> None:
    assert PurePosixPath(path) in built.sdist_names


def test_wheel_installs_into_an_empty_folder(built: Distributions, tmp_path: Path) -> None:
    target = tmp_path / "site"
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "--quiet"]
    run(*pip, "--no-deps", "--no-index", "--target", target, built.wheel, cwd=tmp_path)
    installed = {path.name for path in target.iterdir()} - {"bin", "Scripts"}
    assert installed == PACKAGES | {f"pocketgpt-{built.version}.dist-info"}

    # -I keeps this checkout's folders and PYTHONPATH out; the target goes before site-packages,
    # which still has to serve numpy, onnxruntime and tokenizers.
    code = f"""
import sys
sys.path.insert(0, {str(target)!r})
import pocketgpt
print(pocketgpt.__file__)
print(pocketgpt.__version__)
"""
    file, version = run(sys.executable, "-I", "-c", code, cwd=tmp_path).splitlines()
    assert Path(file).resolve().is_relative_to(target.resolve())
    assert version == built.version


def test_import_is_light(tmp_path: Path) -> None:
    code = "import json, sys, pocketgpt; print(json.dumps(sorted(sys.modules)))"
    loaded = json.loads(run(sys.executable, "-I", "-c", code, cwd=tmp_path))
    assert "pocketgpt" in loaded
    assert {name.partition(".")[0] for name in loaded} & HEAVY == set()
