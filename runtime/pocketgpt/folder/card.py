"""The model card, README.md: what a folder holds, for people and for the Hugging Face hub."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path, PurePath
from typing import Any

from .config import ModelConfig, read_config
from .manifest import Manifest, Variant
from .usage import usages

CARD = "README.md"
_PLAIN = re.compile(r"[A-Za-z][A-Za-z0-9_./-]*")  # what YAML reads as a text without quotes
_YAML_WORDS = ("true", "false", "yes", "no", "on", "off", "null", "y", "n")  # `no`: Norwegian
_FIGURES = (
    ("perplexity", "perplexity", "{:.2f}"),
    ("change", "loss", "{:+.2%}"),
    ("next token as fp32's", "top1_agreement", "{:.1%}"),
)
_LABEL_FIGURES = (
    ("change of perplexity", "loss", "{:+.2%}"),
    ("label as fp32's", "label_agreement", "{:.1%}"),
)


def model_card(
    folder: Path,
    manifest: Manifest,
    variants: Iterable[str] | None = None,
    *,
    repo: str | None = None,
) -> str:
    """Return the text of a model card, with the front matter that the hub reads.

    Args:
        folder: the model folder, of which config.json is read.
        manifest: what it holds.
        variants: those to speak of; None for all.
        repo: the name it has on the hub, `user/repo`; None for programs that run in the folder.

    Raises:
        ModelFolderError: config.json is missing or damaged.

    Example:
        >>> model_card(Path("models/gpt2"), read_manifest(Path("models/gpt2")), ["int8"])
    """
    if variants is not None:
        manifest = replace(manifest, variants={name: manifest.variant(name) for name in variants})
    config = read_config(folder)
    parts = [
        _front_matter(manifest, config),
        f"# {_title(manifest)}",
        _introduction(manifest, config),
        "## Variants",
        _table(manifest, config),
        _about_figures(manifest),
        "## How to run it",
        *_programs(manifest, config, repo),
        *_remarks(manifest),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _front_matter(manifest: Manifest, config: ModelConfig) -> str:
    fields: dict[str, Any] = {
        "license": manifest.license,
        "language": list(manifest.languages),
        "library_name": "pocketgpt",
        "pipeline_tag": config.task,
        "base_model": _on_hub(manifest),
        "base_model_relation": "quantized" if _on_hub(manifest) else None,
        "tags": ["gpt2", "onnx", "onnxruntime", "onnxruntime-genai", "transformers.js"],
    }
    if config.labels is not None:
        fields["tags"] = ["gpt2", "onnx", "onnxruntime"]
    lines = [line for name, value in fields.items() if value for line in _yaml(name, value)]
    return "\n".join(["---", *lines, "---"])


def _yaml(name: str, value: str | list[str]) -> Iterator[str]:
    if isinstance(value, str):
        yield f"{name}: {_scalar(value)}"
        return
    yield f"{name}:"
    yield from (f"- {_scalar(one)}" for one in value)


def _scalar(text: str) -> str:
    """Return a text as YAML writes it; JSON's quotes are YAML's, too."""
    plain = _PLAIN.fullmatch(text) and text.lower() not in _YAML_WORDS
    return text if plain else json.dumps(text)


def _on_hub(manifest: Manifest) -> str | None:
    """Return the checkpoint's name on the hub; None where it came from a disk."""
    return manifest.source if manifest.revision is not None else None


def _title(manifest: Manifest) -> str:
    """Return the checkpoint's own name: the last part of the hub's, or of a path on a disk."""
    name = PurePath(manifest.source.replace("\\", "/"))
    return _escaped(name.stem if name.suffix in (".pt", ".pth", ".ckpt") else name.name) or "GPT-2"


def _introduction(manifest: Manifest, config: ModelConfig) -> str:
    weights = "" if manifest.parameters is None else f" of {manifest.parameters:,} weights"
    source = _on_hub(manifest)
    origin = (
        f"[{source}](https://huggingface.co/{source}) at `{manifest.revision}`"
        if source
        else f"a checkpoint named {_title(manifest)}"
    )
    lines = [
        f"A GPT-2{weights}, {config.n_layer} layers of width {config.n_embd} with {config.n_head} "
        f"heads, {config.vocab_size:,} tokens, a context of {config.n_positions:,}: {origin}, "
        f"as ONNX with its key-value cache.",
    ]
    if manifest.base is not None:
        lines.append(f"It is an adapter, merged into {_escaped(PurePath(manifest.base).name)}.")
    if config.labels is not None:
        names = ", ".join(map(_escaped, config.labels.names))
        lines.append(f"It classifies texts; its labels are {names}.")
    if worst := [value for check, value in manifest.proof.items() if check != "tokenizer"]:
        lines.append(f"Its fp32 graph's logits are within {max(worst):.1e} of PyTorch's.")
    if manifest.license is None:
        lines.append("The checkpoint states no licence: ask its makers before you pass it on.")
    elif manifest.license != "other":
        lines.append(f"Its licence is {_escaped(manifest.license)}, the checkpoint's.")
    else:
        lines.append("Its licence is the checkpoint's own, which says what is allowed.")
    return "\n".join(lines)


def _table(manifest: Manifest, config: ModelConfig) -> str:
    figures = _FIGURES if config.labels is None else _LABEL_FIGURES
    measured = {n: _measured(manifest, v) for n, v in manifest.variants.items()}
    shown = [one for one in figures if any(one[1] in found for found in measured.values())]
    rows = [
        ["variant", "graph", "MB", *(heading for heading, _, _ in shown)],
        ["---", "---", *["---:"] * (1 + len(shown))],
    ]
    for name, variant in manifest.variants.items():
        size = sum(record.bytes for record in variant.files) / 1e6
        found = measured[name]
        values = [_shown(form, found[key]) if key in found else "" for _, key, form in shown]
        rows.append([name, f"`{variant.files[0].path}`", f"{size:.1f}", *values])
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _shown(form: str, figure: float) -> str:
    """Return a figure as a text; what rounds to nothing has no sign."""
    return form.format(round(figure, 4) + 0.0)


def _measured(manifest: Manifest, variant: Variant) -> dict[str, float]:
    """Return a variant's figures, if they are of the text that the latest were measured on."""
    same = variant.evaluation_sha256 == manifest.evaluation_sha256
    return dict(variant.quality) if same else {}


def _about_figures(manifest: Manifest) -> str:
    lines = ["Each graph's weights are in the file beside it, whose name ends in `_data`."]
    if any(_measured(manifest, variant) for variant in manifest.variants.values()):
        lines.append(
            "*change* is the relative rise of perplexity over fp32, measured on a text of sha256 "
            f"`{(manifest.evaluation_sha256 or '')[:16]}`; every figure, and each file's sha256, "
            "is in pocketgpt.json."
        )
    return "\n".join(lines)


def _programs(manifest: Manifest, config: ModelConfig, repo: str | None) -> Iterator[str]:
    if config.labels is None:
        yield (
            f"A prompt and what is generated have {config.n_positions:,} tokens together at most."
        )
    for usage in usages(manifest, config, repo):
        fence = f"```{usage.language}\n{usage.code}```"
        yield f"### {usage.runtime}\n\n`{usage.install}`\n\n{fence}"


def _remarks(manifest: Manifest) -> list[str]:
    if not manifest.remarks:
        return []
    return ["## Notes", "\n".join(f"- {_escaped(remark)}" for remark in manifest.remarks)]


def _escaped(text: str) -> str:
    """Return a line of text in which Markdown finds no marks and HTML no tags."""
    return re.sub(r"([\\`*_\[\]<>|])", r"\\\1", text)
