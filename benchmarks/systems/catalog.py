"""Which systems are measured: the rows of the tables, in their order."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

OURS = "PocketGPT"
REFERENCE = "PyTorch"
EIGHT_BIT_CACHE = "+kv8"  # at the end of a kind: the cache in 8 bits, too
PROMPTS = "+prompts"  # before that: q8 computes prompts
ENVIRONMENTS = Path(__file__).resolve().parents[2] / ".venv-bench"


@dataclass(frozen=True)
class System:
    """A row: whose runtime (`systems/{name}_system.py`), which form of the model, of how many bits.

    Attributes:
        label: what tables call it.
        name: of its module, its requirements and its environment.
        kind: what the module calls this form of the model.
        bits: of its weights.
        files_of: the label of the row whose very files it runs; None where they are its own.
    """

    label: str
    name: str
    kind: str
    bits: int
    files_of: str | None = None

    @property
    def ours(self) -> bool:
        """Whether it is PocketGPT."""
        return self.name == "pocketgpt"

    @property
    def python(self) -> Path:
        """The interpreter of its environment."""
        return ENVIRONMENTS / self.name / "bin" / "python"


def _ours(kind: str, bits: int) -> System:
    rest = kind.removesuffix(EIGHT_BIT_CACHE)
    cache = ", 8-bit cache" if kind != rest else ""
    variant = rest.removesuffix(PROMPTS)
    prompts = ", prompts by q8" if rest != variant else ""
    return System(f"{OURS} {variant}{cache}{prompts}", "pocketgpt", kind, bits)


def _llama(kind: str, bits: int) -> System:
    width = kind.removesuffix(EIGHT_BIT_CACHE)
    cache = ", 8-bit cache" if kind != width else ""
    return System(f"llama.cpp {width}{cache}", "llama", kind, bits)


def _on_our_folder(title: str, name: str, kind: str, bits: int) -> System:
    return System(f"{title} {kind}", name, kind, bits, files_of=f"{OURS} {kind}")


GENAI, JAVASCRIPT = "ONNX Runtime GenAI", "transformers.js"
SYSTEMS = (
    _ours("fp32", 32),
    System(REFERENCE, "transformers", "float32", 32),
    System("Optimum fp32", "optimum", "fp32", 32),
    _on_our_folder(GENAI, "genai", "fp32", 32),
    System("CTranslate2 float32", "ctranslate2", "float32", 32),
    _llama("F32", 32),
    _on_our_folder(JAVASCRIPT, "transformersjs", "fp32", 32),
    _ours("default", 8),
    _ours("int8", 8),
    _ours("int8+kv8", 8),
    _ours("q8", 8),
    _ours("q8+kv8", 8),
    System("Optimum int8", "optimum", "int8", 8),
    _on_our_folder(GENAI, "genai", "int8", 8),
    _on_our_folder(GENAI, "genai", "q8", 8),
    System("CTranslate2 int8", "ctranslate2", "int8", 8),
    _llama("Q8_0", 8),
    _llama("Q8_0+kv8", 8),
    System("OpenVINO GenAI int8", "openvino", "int8", 8),
    _on_our_folder(JAVASCRIPT, "transformersjs", "int8", 8),
    _on_our_folder(JAVASCRIPT, "transformersjs", "q8", 8),
    _ours("q4", 4),
    _ours("q4+kv8", 4),
    _ours(f"q4{PROMPTS}{EIGHT_BIT_CACHE}", 4),
    _on_our_folder(GENAI, "genai", "q4", 4),
    _llama("Q4_0", 4),
    _llama("Q4_0+kv8", 4),
    _llama("Q4_K_M", 4),
    System("OpenVINO GenAI int4", "openvino", "int4", 4),
    _on_our_folder(JAVASCRIPT, "transformersjs", "q4", 4),
)
