"""The models that are served, by the names that requests call them."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from ..errors import OptionError
from ..folder.manifest import MANIFEST
from ..model import Model, load
from ..text.chat_template import Format, has_template, read_format
from .errors import ApiError
from .settings import ModelSpec


@dataclass(frozen=True, eq=False)
class Served:
    """What one name stands for: a model as it is, or with an adapter.

    Attributes:
        name: what requests call it.
        model: the loaded variant; names with adapters share it.
        adapter: the adapter's name; None for the model as it is.
        created: when the folder was made, in seconds since 1970.
        chat: how the folder writes a conversation; None where it has no chat template.
        parent: the name of the model without an adapter; None where it is that.
    """

    name: str
    model: Model
    adapter: str | None
    created: int
    chat: Format | None = None
    parent: str | None = None

    @cached_property
    def fingerprint(self) -> str:
        """What tells these weights from all others, as `system_fingerprint`."""
        return f"fp_{self.model.identity_with(self.adapter)[:12]}"

    @property
    def description(self) -> dict[str, Any]:
        """What /v1/models says of it: OpenAI's fields, and how long its context is."""
        return {
            "id": self.name,
            "object": "model",
            "created": self.created,
            "owned_by": "pocketgpt",
            "root": self.parent or self.name,
            "parent": self.parent,
            "max_model_len": self.model.config.n_positions,
            "variant": self.model.variant,
        }


class Catalog(Mapping[str, Served]):
    """All that is served; the first is the one that a request without a name gets."""

    def __init__(self, served: Sequence[Served]) -> None:
        self._served = {one.name: one for one in served}

    def __getitem__(self, name: str) -> Served:
        return self._served[name]

    def __iter__(self) -> Any:
        return iter(self._served)

    def __len__(self) -> int:
        return len(self._served)

    def find(self, name: object) -> Served:
        """Return what a request asks for.

        Raises:
            ApiError: there is no such model.
        """
        if name is None:
            return next(iter(self._served.values()))
        if isinstance(name, str) and name in self._served:
            return self._served[name]
        raise ApiError(
            404,
            f"The model {name!a:.80} does not exist; there are {', '.join(self._served)}",
            param="model",
            code="model_not_found",
        )


def load_all(
    specs: Sequence[ModelSpec],
    prefix_cache_bytes: int,
    progress: Callable[[str, int, int], None] | None = None,
) -> Catalog:
    """Load every model.

    Raises:
        PocketGPTError: one cannot be loaded, or is no language model; the message says which.
    """
    return Catalog([one for spec in specs for one in _load(spec, prefix_cache_bytes, progress)])


def _load(
    spec: ModelSpec, prefix_cache_bytes: int, progress: Callable[[str, int, int], None] | None
) -> list[Served]:
    model = load(
        spec.folder,
        prefix_cache_bytes=prefix_cache_bytes,
        adapters=spec.adapters or None,
        progress=progress,
        **spec.options,
    )
    if model.config.task != "text-generation":
        raise OptionError(
            f"{spec.folder} holds a classifier, which predicts no next token and cannot be served"
        )
    created = _created(spec.folder)
    chat = read_format(spec.folder) if has_template(spec.folder) else None
    base = Served(spec.name, model, None, created, chat)
    return [base, *(Served(n, model, n, created, chat, spec.name) for n in spec.adapters)]


def _created(folder: Path) -> int:
    try:
        return int((folder / MANIFEST).stat().st_mtime)
    except OSError:
        return int(time.time())
