"""What this machine has to run models on, and what could be added."""

from __future__ import annotations

import os
from dataclasses import dataclass

import onnxruntime as ort

from ..engine.plugins import ep_devices, installed_plugins, load_library, plugin_devices
from ..engine.probe import why_inactive
from ..engine.providers import CPU, SHORT_NAMES, advice, short_name
from ..engine.verdicts import SelfTest, describe, remembered
from ..errors import ProviderError
from ..folder.file_record import hash_of
from ..folder.manifest import GRAPHS, Manifest, read_manifest
from ..folder.pairing import suitable_variants

_REMOTE = "AzureExecutionProvider"  # asks a service elsewhere: nothing here runs on it


@dataclass(frozen=True)
class ProviderState:
    """An execution provider, as it is here.

    Attributes:
        name: its short name, for `load(provider=...)`.
        provider: ONNX Runtime's name.
        available: whether it can be asked for, and becomes active.
        devices: what it would run on, as far as ONNX Runtime tells.
        missing: where it is not available, which package brings it, or why it fails.
        variants: those that suit it, the best first: of the folder's where one was given.
        selftests: what was found on the folder's variants, the newest first.
    """

    name: str
    provider: str
    available: bool
    devices: tuple[str, ...]
    missing: str | None
    variants: tuple[str, ...]
    selftests: tuple[SelfTest, ...] = ()


@dataclass(frozen=True)
class Devices:
    """What `devices` found; `conflicts` has a line for what is installed wrongly."""

    onnxruntime: str
    providers: tuple[ProviderState, ...]
    conflicts: tuple[str, ...]


def devices(folder: str | os.PathLike[str] | None = None) -> Devices:
    """Look at what ONNX Runtime can run models on here. Libraries of plugins are loaded for that.

    Args:
        folder: a model folder, to say which of its variants suit, and what self-tests found.

    Raises:
        ModelFolderError: the folder is missing, or its manifest is damaged.

    Example:
        >>> [one.name for one in pocketgpt.devices().providers if one.available]
        ['cpu']
    """
    manifest = None if folder is None else read_manifest(folder)
    broken = _load_plugins()
    found: dict[str, list[str]] = {device.ep_name: [] for device in ep_devices()}
    for device in ep_devices():
        found[device.ep_name].append(describe(device))
    there = {*ort.get_available_providers(), *found} - {_REMOTE}
    for name in there - {CPU}:
        if not plugin_devices(name) and (why := why_inactive(name)):
            broken[name] = why
    names = dict.fromkeys([*SHORT_NAMES.values(), *sorted({*there, *broken})])
    there -= {name for name in broken if not plugin_devices(name)}
    verdicts = remembered(_graphs(manifest)) if manifest else []
    states = tuple(
        ProviderState(
            name=short_name(name),
            provider=name,
            available=name in there,
            devices=tuple(found.get(name, ())),
            missing=None if name in there else broken.get(name) or advice(name),
            variants=_variants(name, manifest),
            selftests=tuple(one for one in verdicts if one.provider == name),
        )
        for name in names
    )
    return Devices(ort.__version__, states, tuple(conflicts()))


def conflicts() -> list[str]:
    """Return a line where several wheels own the folder `onnxruntime`: one overwrote the other."""
    from importlib import metadata  # which imports email, csv and zipfile

    owners = sorted(set(metadata.packages_distributions().get("onnxruntime", ())))
    if len(owners) < 2:
        return []
    kept = next(name for name in owners if name != "onnxruntime")
    return [
        f"{' and '.join(owners)} are installed into one folder, onnxruntime, and the later one has "
        f"overwritten files of the other: pip uninstall -y {' '.join(owners)} && pip install {kept}"
    ]


def _load_plugins() -> dict[str, str]:
    """Load the libraries of all plugins; return by provider why one cannot be used."""
    broken: dict[str, str] = {}
    for plugin in installed_plugins():
        name = plugin.names[0]
        try:
            load_library(name, plugin.library())
        except (ProviderError, OSError, RuntimeError) as error:
            broken |= {one: str(error) for one in plugin.names}
        else:
            broken |= dict.fromkeys(plugin.names, f"{plugin.module} finds no device here")
    return broken


def _graphs(manifest: Manifest) -> dict[str, str]:
    """Return by variant what a verdict knows its graph by."""
    return {
        name: hash_of([variant.files[0].sha256, variant.files[1].sha256])
        for name, variant in manifest.variants.items()
    }


def _variants(provider: str, manifest: Manifest | None) -> tuple[str, ...]:
    if manifest is None:
        every = (name for graph in GRAPHS for name in suitable_variants(provider, graph))
        return tuple(dict.fromkeys(every))
    suitable = suitable_variants(provider, manifest.graph)
    return tuple(name for name in suitable if name in manifest.variants)
