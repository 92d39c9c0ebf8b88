"""The shortest program for each runtime that reads a model folder, as the model card shows it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from string import Template

from .config import ModelConfig
from .manifest import Manifest, variant_path
from .pairing import PREFERRED_ANYWHERE, first_of

PROMPT = "Once upon a time"


@dataclass(frozen=True)
class Usage:
    """One program: the runtime's name, what installs it, its language for Markdown, its text."""

    runtime: str
    install: str
    language: str
    code: str


_POCKETGPT = """\
import pocketgpt

model = pocketgpt.load("$where", variant="$variant")
print(model.generate("$prompt", max_new_tokens=40).text)
"""

_CLASSIFY = """\
import pocketgpt

model = pocketgpt.load("$where", variant="$variant")
print(model.classify("$prompt").label)
"""

_OPTIMUM = """\
from optimum.onnxruntime import ORTModelForCausalLM
from transformers import AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained("$where")
model = ORTModelForCausalLM.from_pretrained("$where", subfolder="onnx", file_name="$file")
ids = model.generate(**tokenizer("$prompt", return_tensors="pt"), max_new_tokens=40)
print(tokenizer.decode(ids[0]))
"""

_GENAI = """\
import onnxruntime_genai as og

model = og.Model("$folder")
tokenizer = og.Tokenizer(model)
stream = tokenizer.create_stream()
params = og.GeneratorParams(model)
params.set_search_options(max_length=44)  # the prompt's tokens included
generator = og.Generator(model, params)
generator.append_tokens(tokenizer.encode("$prompt"))
while not generator.is_done():
    generator.generate_next_token()
    print(stream.decode(generator.get_next_tokens()[0]), end="", flush=True)
"""

_TRANSFORMERS_JS = """\
import { $imports } from "@huggingface/transformers";

${here}const generator = await pipeline("text-generation", "$where", { dtype: "$dtype" });
const [{ generated_text }] = await generator("$prompt", { max_new_tokens: 40 });
console.log(generated_text);
"""

_ONNXRUNTIME = """\
import numpy as np
import onnxruntime
from tokenizers import Tokenizer

tokenizer = Tokenizer.from_file("$folder/tokenizer.json")
session = onnxruntime.InferenceSession("$folder/$path")
ids = tokenizer.encode("$prompt").ids
cache = [name.name for name in session.get_inputs() if name.name.startswith("past_key_values")]
past, seen = [np.zeros((1, $heads, 0, $width), np.$type)] * len(cache), 0
while len(ids) < 44:
    new = np.array([ids[seen:]], np.int64)
    feeds = {
        "input_ids": new,
        "attention_mask": np.ones((1, len(ids)), np.int64),
        "position_ids": np.arange(seen, len(ids))[None],
    }
    logits, *past = session.run(None, feeds | dict(zip(cache, past)))
    seen = len(ids)
    ids.append(int(logits[0, -1].argmax()))
print(tokenizer.decode(ids))
"""


def usages(manifest: Manifest, config: ModelConfig, where: str | None = None) -> Iterator[Usage]:
    """Yield a program for each runtime that runs a folder, on the variant that suits any CPU.

    Args:
        manifest: what the folder holds.
        config: the model's shape.
        where: its name on the hub; None where the programs run beside the folder's files.
    """
    variant = first_of(PREFERRED_ANYWHERE, manifest.variants) or next(iter(manifest.variants))
    path = variant_path(variant)
    known = {
        "where": where or ".",
        "folder": ".",
        "variant": variant,
        "dtype": variant,
        "path": path,
        "file": path.rpartition("/")[2],
        "heads": config.n_head,
        "width": config.head_dim,
        "type": "float16" if variant in ("fp16", "q4f16") else "float32",
        "prompt": PROMPT,
    }

    def usage(runtime: str, install: str, code: str, language: str = "python") -> Usage:
        return Usage(runtime, install, language, Template(code).substitute(known))

    extra = "'pocketgpt[hub]'" if where else "pocketgpt"
    if where is None:  # transformers.js looks for folders beside itself, unless told where
        known |= {"imports": "env, pipeline", "here": 'env.localModelPath = "./";\n'}
    else:
        known |= {"imports": "pipeline", "here": ""}
    if config.labels is not None:
        yield usage("PocketGPT", f"pip install {extra}", _CLASSIFY)
        return
    yield usage("PocketGPT", f"pip install {extra}", _POCKETGPT)
    yield usage("Optimum", "pip install optimum-onnx onnxruntime", _OPTIMUM)
    yield usage("ONNX Runtime GenAI", "pip install onnxruntime-genai", _GENAI)
    yield usage("transformers.js", "npm install @huggingface/transformers", _TRANSFORMERS_JS, "js")
    yield usage("ONNX Runtime alone", "pip install onnxruntime tokenizers numpy", _ONNXRUNTIME)
