"""Which systems have wheels of what the runtime needs, by what pip resolves."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
BASE = tuple(tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["dependencies"])
PYTHONS = ("3.11", "3.12", "3.13", "3.14")

_GLIBC = ("2_34", "2_31", "2_28", "2_27", "2_26", "2_24", "2_17", "2_12", "2_5")
_MUSL = ("1_2", "1_1")


def _linux(machine: str) -> tuple[str, ...]:
    return (
        *(f"manylinux_{version}_{machine}" for version in _GLIBC),
        *(f"manylinux{year}_{machine}" for year in (2014, 2010)),
        f"linux_{machine}",
    )


def _macos(machine: str, newest: int) -> tuple[str, ...]:
    versions = [f"{major}_0" for major in range(newest, 10, -1)]
    if machine == "x86_64":
        versions += [f"10_{minor}" for minor in range(16, 8, -1)]
    return tuple(f"macosx_{v}_{kind}" for v in versions for kind in (machine, "universal2"))


# The tags of each system's wheels, as pip takes them.
SYSTEMS = {
    "Linux x86-64": _linux("x86_64"),
    "Linux ARM64": _linux("aarch64"),
    "Linux ARM 32-bit (armv7)": _linux("armv7l"),
    "Linux x86-64, musl (Alpine)": tuple(f"musllinux_{v}_x86_64" for v in _MUSL),
    "Linux ARM64, musl (Alpine)": tuple(f"musllinux_{v}_aarch64" for v in _MUSL),
    "macOS 15 ARM64": _macos("arm64", 15),
    "macOS 15 x86-64": _macos("x86_64", 15),
    "Windows x86-64": ("win_amd64",),
    "Windows ARM64": ("win_arm64",),
    "Android ARM64": ("android_24_arm64_v8a", "android_21_arm64_v8a"),
}


def name_of(requirement: str) -> str:
    """Return a requirement's package."""
    return requirement.partition(">")[0]


def missing(system: str, python: str) -> list[str]:
    """Return the packages of the runtime's base that have no wheel in the range it takes."""
    if _resolve(BASE, system, python):
        return []
    return [name_of(one) for one in BASE if not _resolve((one,), system, python)]


def _resolve(requirements: tuple[str, ...], system: str, python: str) -> bool:
    """Whether pip finds wheels.

    Raises:
        RuntimeError: it failed for another reason: no network, for one.
    """
    platforms = [word for tag in SYSTEMS[system] for word in ("--platform", tag)]
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(
            [
                *(sys.executable, "-m", "pip", "install", "--quiet", "--dry-run", "--no-deps"),
                *("--only-binary=:all:", "--implementation", "cp", "--python-version", python),
                *("--target", folder, *platforms, *requirements),
            ],
            capture_output=True,
            text=True,
        )
    if done.returncode and "No matching distribution found" not in done.stderr:
        raise RuntimeError(f"pip could not ask for {system}: {done.stderr.strip()[-400:]}")
    return done.returncode == 0
