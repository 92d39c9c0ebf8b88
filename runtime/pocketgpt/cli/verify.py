"""`pocketgpt verify`: is a model folder what was exported, and does a provider compute it."""

from __future__ import annotations

import dataclasses
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer

from ..engine.assignment import Assignment
from ..engine.verdicts import SelfTest
from ..errors import OptionError, ProofError
from ..extras import needs_extra
from ..folder.verification import Verification, verify_files, with_signature
from ..measure.selftest import selftest
from .console import checks_table, print_json, progress_bars, result_console
from .options import Folder, JsonOption, StrictOption, ThreadsOption, VariantOption


def verify(
    folder: Folder,
    checkpoint: Annotated[
        str | None,
        typer.Option(
            "--checkpoint",
            help="What it was exported from.  [default: its source, if that is still here]",
        ),
    ] = None,
    revision: Annotated[
        str | None, typer.Option("--revision", help="A hub branch, tag or commit.")
    ] = None,
    tokenizer: Annotated[
        str | None, typer.Option("--tokenizer", help="Where the tokenizer came from.")
    ] = None,
    base: Annotated[
        str | None, typer.Option("--base", help="What an adapter was merged into.")
    ] = None,
    check_signature: Annotated[
        Path | None,
        typer.Option(
            "--check-signature",
            metavar="PEM",
            help="Check its signature too, by the signer's public key or the certificates that are "
            "trusted.",
        ),
    ] = None,
    signature: Annotated[
        Path | None,
        typer.Option(
            "--signature",
            help="Where its signature lies.  [default: model.sig in a folder, FILE.sig beside a "
            "package]",
        ),
    ] = None,
    provider: Annotated[
        str | None,
        typer.Option(
            "--provider",
            help="Test instead whether a provider, the CPU too, gives the CPU's answers.",
        ),
    ] = None,
    variant: VariantOption = None,
    strict: StrictOption = False,
    threads: ThreadsOption = None,
    json: JsonOption = False,
) -> None:
    """Check a model's files, and its graph against PyTorch where the checkpoint is at hand.

    --variant, --strict and --threads are for --provider.
    """
    if signature is not None and check_signature is None:
        raise OptionError("--signature needs --check-signature")
    if provider is not None:
        with progress_bars() as progress:
            test = selftest(
                folder,
                variant,
                provider=provider,
                threads=threads,
                strict=strict,
                progress=progress,
            )
        print_json(test) if json else _show_test(test)
        if test.failed:
            raise ProofError(test.line)
        return
    if variant is not None or strict or threads is not None:
        raise OptionError("--variant, --strict and --threads need --provider")
    with progress_bars() as progress:
        if checkpoint is None and not (find_spec("torch") and find_spec("transformers")):
            found = dataclasses.replace(
                verify_files(folder, progress), unproven="it needs pip install 'pocketgpt[export]'"
            )
        else:
            with needs_extra("export"):
                import pocketgpt_export
            found = pocketgpt_export.verify(
                folder,
                checkpoint,
                revision=revision,
                tokenizer=tokenizer,
                base=base,
                progress=progress,
            )
    damaged = bool(found.failures) and not found.proof
    if check_signature is not None:
        found = with_signature(found, folder, check_signature, signature)
    if json:
        print_json(found)
    else:
        _show(found, damaged)
        if check_signature is not None:
            held = f"{found.signature}: ok" if found.signature else "FAILED"
            result_console.print(f"signature {held}", soft_wrap=True)
    if found.failures:
        raise ProofError("; ".join(found.failures))


def _show(found: Verification, damaged: bool) -> None:
    files = "FAILED" if damaged else "ok"
    result_console.print(f"sha256 of {', '.join(found.variants)}: {files}", soft_wrap=True)
    if found.proof:
        result_console.print(checks_table(found.proof, found.tolerance or 0))
    if found.unproven:
        result_console.print(f"not proven against PyTorch: {found.unproven}", soft_wrap=True)


def _show_test(test: SelfTest) -> None:
    result_console.print(checks_table(test.differences, test.allowed))
    lines = [
        f"{test.variant} on {test.provider} ({test.device}), ONNX Runtime {test.onnxruntime}",
        f"a logit may differ by {test.allowed:.1e} from the CPU's; tested in {test.seconds:.2f} s",
    ]
    if test.nodes:
        lines.append(str(Assignment(test.nodes, test.cpu_nodes)))
    for line in lines:
        result_console.print(line, highlight=False, soft_wrap=True)
