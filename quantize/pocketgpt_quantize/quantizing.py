"""`quantize`: make variants of a model folder, measure each loss, install those that hold."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from shutil import disk_usage

from pocketgpt import OptionError, QuantizationError
from pocketgpt.engine.graph import Graph
from pocketgpt.engine.selftest import take_fingerprint
from pocketgpt.folder.atomic import os_error_line, staging_folder
from pocketgpt.folder.config import HEAD_MULTIPLE
from pocketgpt.folder.files import check_is_folder
from pocketgpt.folder.fingerprint import Fingerprint
from pocketgpt.folder.hub import refuse_hub
from pocketgpt.folder.manifest import Int8Cache, Variant, variant_path
from pocketgpt.folder.opening import OpenFolder, open_folder
from pocketgpt.text.tokenizer import Tokenizer

from .caching import CachedGraph, add_int8_caches, kept_cache
from .graph.rewrite import check_weights
from .install import ONNX, install
from .job import FP32, Job, Progress
from .measure.labels import MIN_AGREEMENT, TextSet, agreement_of, measure_labels
from .measure.loading import open_sparingly
from .measure.quality import BLOCK_BYTES, Passage, measure
from .measure.tolerance import measure_tolerance
from .recipes.registry import RECIPES, Recipe, recipe_of
from .report import VariantReport
from .texts import Text, read_calibration, read_evaluation


def quantize(
    folder: str | os.PathLike[str],
    variants: Sequence[str],
    *,
    eval_text: str | os.PathLike[str] | None = None,
    calibration_text: str | os.PathLike[str] | None = None,
    max_loss: float | None = None,
    accept_loss: bool = False,
    block_size: int | None = None,
    progress: Progress | None = None,
) -> list[VariantReport]:
    """Make variants from a folder's fp32 one, measure each against it, install those that hold.

    Nothing in the folder changes until every variant is made and measured. A variant whose
    perplexity rises by more than is allowed is not installed; an older one of its name stays.

    A classifier is measured on its labels for the lines of the text: the perplexity is theirs, and
    98% of the texts have to keep their label.

    Args:
        folder: a model folder.
        variants: `int8`, `q4`, `q8`, `mixed`, `fp16`, `q4f16`; `int8_static` from a portable graph.
        eval_text: a text to measure on; None for the folder's evaluation.txt.
        calibration_text: a text for the methods that look at one; None for the folder's
            calibration.txt.
        max_loss: the relative rise of perplexity allowed, for all; None for each variant's own.
        accept_loss: install variants over it too; the manifest then says so.
        block_size: how many weights of a layer share a scale in int8, q4 and q4f16, 32, 64, 128 or
            256. Larger blocks are smaller and faster, and lose more, the less so the wider the
            model. None for 32; of a width of 512 or more for the largest of 128, 64 and 32 with
            which perplexity rises by no more than 0.05% in 8 bits, 0.8% in 4, on the end of the
            calibration text.
        progress: called with (what is done now, units done, units in all).

    Returns:
        A report for each variant, in the order asked for.

    Raises:
        QuantizationError: the folder's graph is not what a variant is made from, a weight not
            finite, a text missing, or the same text given for both.
        OptionError: a variant is unknown or has no such blocks, `max_loss` is no number from 0 on,
            or `folder` is a package.
        ModelFolderError: the folder or its fp32 variant is missing or damaged.

    Example:
        >>> [report.loss for report in quantize("models/gpt2", ["int8", "q4"])]
    """
    refuse_hub(folder, "quantize")
    folder = Path(folder)
    check_is_folder(folder)
    recipes = {name: recipe_of(name) for name in variants}
    _check_max_loss(max_loss)
    _check_block_size(recipes, block_size)
    opened = open_folder(folder, FP32)
    for name, recipe in recipes.items():
        _check_graph(opened, name, recipe)
    evaluation = read_evaluation(folder, eval_text)
    calibration = (
        read_calibration(folder, calibration_text, evaluation)
        if calibration_text is not None or _looks_at_a_text(folder, recipes)
        else None
    )
    allowed = {n: r.max_loss if max_loss is None else max_loss for n, r in recipes.items()}
    try:
        with staging_folder(folder / "variants") as staging:
            check_weights(opened.graph_path)  # now: what a kill left may link to them
            (staging / ONNX).mkdir()
            made = {}
            for name, recipe in recipes.items():
                text = calibration if recipe.calibrated else None
                job = Job(name, opened, staging, allowed[name], text, block_size, progress)
                made[name] = recipe.make(job)
            caches = add_int8_caches(opened, staging, made, calibration) if calibration else {}
            measured = _measure(opened, staging, made, caches, evaluation, progress)
            fp32 = measured.pop(FP32)
            reports = [
                _judge(name, variant, allowed[name], accept_loss)
                for name, variant in measured.items()
            ]
            installed = {report.name: report.variant for report in reports if report.installed}
            install(staging, folder, fp32, installed, evaluation.sha256)
    except OSError as error:
        raise QuantizationError(_what_failed(error, folder)) from error
    return reports


def _what_failed(error: OSError, folder: Path) -> str:
    line = os_error_line(error, folder)
    return line.replace("cannot be written", "cannot take the variants, and lists none of them")


def _looks_at_a_text(folder: Path, recipes: dict[str, Recipe]) -> bool:
    """Whether a recipe needs a calibration text, or one is there to make it better."""
    calibrated = [recipe for recipe in recipes.values() if recipe.calibrated]
    there = (folder / "calibration.txt").is_file()
    return bool(calibrated) and (there or any(recipe.needs_text for recipe in calibrated))


def _check_max_loss(max_loss: float | None) -> None:
    if max_loss is not None and not (max_loss >= 0 and math.isfinite(max_loss)):
        raise OptionError(
            f"max_loss is a relative rise of perplexity, such as 0.01 or 1%, not {max_loss}"
        )


def _check_block_size(recipes: Mapping[str, Recipe], size: int | None) -> None:
    for name, recipe in recipes.items():
        if size is None or size in recipe.block_sizes:
            continue
        if not recipe.block_sizes:
            takers = ", ".join(other for other, one in RECIPES.items() if one.block_sizes)
            raise OptionError(f"block_size is for {takers}: {name} has no blocks to choose")
        choices = ", ".join(map(str, recipe.block_sizes))
        raise OptionError(f"block_size of {name} should be one of {choices}, not {size!r:.60}")


def _check_graph(opened: OpenFolder, name: str, recipe: Recipe) -> None:
    graph, width = opened.manifest.graph, opened.config.head_dim
    if graph != recipe.graph and width % HEAD_MULTIPLE:  # no graph but this one takes it
        made = [name for name, other in RECIPES.items() if other.graph == graph]
        raise QuantizationError(
            f"{opened.folder} has heads of {width}, and {name} takes heads of a multiple of "
            f"{HEAD_MULTIPLE}: beside fp32 there can be {', '.join(made)} of this checkpoint"
        )
    if graph != recipe.graph:
        raise QuantizationError(
            f"{opened.folder} holds a {graph} graph, and {name} is made from a {recipe.graph} one: "
            f"export the checkpoint again with --graph {recipe.graph} (graph={recipe.graph!r})"
        )
    if opened.config.labels is not None and not recipe.classifiers:
        raise QuantizationError(
            f"{name} is found by the perplexity of a text, and a classifier has none; make int8 or "
            "q4 instead"
        )


def _measure(
    opened: OpenFolder,
    staging: Path,
    made: Mapping[str, Variant],
    caches: Mapping[str, CachedGraph],
    evaluation: Text,
    progress: Progress | None,
) -> dict[str, Variant]:
    """Return fp32's entry and those of what was `made`, with figures; one graph is open at once."""

    def opener(name: str) -> Callable[[], Graph]:
        path = staging / variant_path(name)
        return lambda: open_sparingly(path, opened.config, made[name].bits)

    graphs: dict[str, Callable[[], Graph]] = {name: opener(name) for name in made}
    graphs |= {cached.title: cached.open for cached in caches.values()}
    figures, token_ids = _figures(opened, staging, graphs, evaluation.content, progress)

    def tolerance(title: str, graph: Graph) -> float:
        chunking = partial(progress, f"chunking {title}") if progress else None
        return measure_tolerance(graph, token_ids, chunking)

    entries = {}
    for name, entry in {FP32: opened.record, **made}.items():
        measured = replace(entry, quality=figures[name], evaluation_sha256=evaluation.sha256)
        if name in made:
            graph = graphs[name]()
            fingerprint = _fingerprint(graph, opened.record.fingerprint)
            measured = replace(measured, tolerance=tolerance(name, graph), fingerprint=fingerprint)
            del graph  # one is open at once
        if name in caches:
            title = caches[name].title
            moved = tolerance(title, graphs[title]())
            cache = Int8Cache(caches[name].record, figures[title], moved)
            measured = replace(measured, int8_cache=kept_cache(measured, cache))
        entries[name] = measured
    return entries


def _fingerprint(graph: Graph, fp32: Fingerprint | None) -> Fingerprint | None:
    """Return what a variant says to the prompts of fp32's fingerprint; None where that has none."""
    if fp32 is None:
        return None
    return take_fingerprint(graph.decoder, [answer.prompt for answer in fp32.answers])


def _figures(
    opened: OpenFolder,
    staging: Path,
    variants: Mapping[str, Callable[[], Graph]],
    text: str,
    progress: Progress | None,
) -> tuple[dict[str, dict[str, float]], list[int]]:
    """Return the figures of fp32 and of variants, by what the model is for; and the text's ids."""
    config = opened.config
    tokenizer = Tokenizer(opened.tokenizer, config.vocab_size)

    def measuring(name: str, done: int, total: int) -> None:
        if progress:
            progress(f"measuring {name}", done, total)

    def fp32() -> Graph:
        return open_sparingly(opened.graph_path, config, opened.record.bits)

    if config.labels is not None:
        texts = TextSet.of(text, tokenizer, config)
        return measure_labels(texts, config, fp32, variants, measuring), texts.token_ids
    distributions = staging / "distributions"
    distributions.mkdir()
    room = min(BLOCK_BYTES, disk_usage(distributions).free // 2)
    passage = Passage.of(text, tokenizer, config, room)
    if progress:
        size = passage.disk_bytes * config.vocab_size / 1e9
        progress(f"measuring, with up to {max(size, 0.1):.1f} GB of disk", 1, 1)
    return measure(passage, fp32, variants, distributions, measuring), passage.token_ids


def _judge(name: str, variant: Variant, allowed: float, accept_loss: bool) -> VariantReport:
    within = variant.quality["loss"] <= allowed
    if agreement := agreement_of(variant.quality):
        within = within and agreement[1] >= MIN_AGREEMENT
    judged = replace(variant, max_loss=allowed, loss_accepted=accept_loss and not within)
    return VariantReport(name, judged, installed=within or accept_loss)
