"""Options that several verbs take."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..folder.opening import KvCache

Folder = Annotated[
    Path,
    typer.Argument(metavar="FOLDER", help="A model folder, a package, or user/repo on the hub."),
]
LocalFolder = Annotated[Path, typer.Argument(metavar="FOLDER", help="A model folder.")]
RevisionOption = Annotated[
    str | None, typer.Option("--revision", help="A branch, tag or commit of the hub.")
]
VariantOption = Annotated[
    str | None,
    typer.Option(
        "--variant",
        help="fp32, int8, q4, ...  [default: the first there is that suits the provider; on a CPU "
        "of int8 and fp32, with VNNI or AMX of q8, int8 and fp32]",
    ),
]
ProviderOption = Annotated[
    str,
    typer.Option(
        "--provider",
        help="auto, cpu, cuda, tensorrt, openvino, coreml, directml, webgpu, qnn, xnnpack, "
        "migraphx, or ONNX Runtime's name; with options as cuda:device_id=1.",
    ),
]
StrictOption = Annotated[
    bool, typer.Option("--strict", help="Refuse a provider that leaves nodes to the CPU.")
]
SelftestOption = Annotated[
    bool,
    typer.Option(
        " /--no-selftest",
        help="Do not test whether a provider other than the CPU computes rightly.",
    ),
]
ThreadsOption = Annotated[
    int | None,
    typer.Option("--threads", help="Threads to compute with.  [default: the physical cores]"),
]
LowMemoryOption = Annotated[
    bool, typer.Option("--low-memory", help="Take less memory rather than less time.")
]
KvCacheOption = Annotated[
    KvCache,
    typer.Option(
        "--kv-cache",
        help="Keep keys and values in 8 bits (int8), in the variant's own type (float), or in 8 "
        "bits where the weights have no more (auto).",
    ),
]
PrefillVariantOption = Annotated[
    str | None,
    typer.Option(
        "--prefill-variant",
        help="Another variant that computes prompts, such as q8 for q4.",
    ),
]
AdapterOption = Annotated[
    Path | None,
    typer.Option(
        "--adapter",
        help="A PEFT LoRA adapter's folder, on a model from export --adapters.",
    ),
]
AssistantOption = Annotated[
    Path | None,
    typer.Option(
        "--assistant",
        help="A smaller model's folder, of the same tokenizer, to guess tokens ahead: the same "
        "text, sooner.",
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
