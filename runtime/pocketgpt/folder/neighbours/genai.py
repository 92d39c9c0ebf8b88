"""genai_config.json: ONNX Runtime GenAI on one of the folder's variants.

Its own kind for GPT-2 takes keys and values in one tensor, as an exporter of 2020 wrote them; `phi`
is the plain decoder with position ids that our graphs are. Another variant takes an overlay:

    config = og.Config(folder)
    config.overlay('{"model": {"decoder": {"filename": "onnx/model_q4.onnx"}}}')
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..config import LARGEST_SIZE, ModelConfig
from ..fields import is_number, is_whole
from ..manifest import Manifest, variant_path
from ..pairing import PREFERRED_ANYWHERE, first_of

GENAI_CONFIG = "genai_config.json"
_KIND = "phi"
# What generation_config.json says and GenAI understands as transformers does.
_SWITCHES = ("do_sample", "early_stopping")
_NUMBERS = ("temperature", "top_p", "repetition_penalty", "length_penalty")
_COUNTS = ("top_k", "num_beams", "min_length")


def genai_config(
    manifest: Manifest, config: ModelConfig, defaults: Mapping[str, Any]
) -> dict[str, Any] | None:
    """Return the configuration; None where GenAI has no use for the model, a classifier.

    Args:
        manifest: the folder's, of which the first variant that suits any CPU is taken.
        config: the model's shape.
        defaults: what generation_config.json says.
    """
    variant = first_of(PREFERRED_ANYWHERE, manifest.variants) or next(iter(manifest.variants))
    ends = _ids(defaults.get("eos_token_id"))
    if config.labels is not None or not ends:  # it refuses to generate without an end
        return None
    begin, pad = _ids(defaults.get("bos_token_id")), _ids(defaults.get("pad_token_id"))
    decoder = {
        "session_options": {"log_id": "onnxruntime-genai", "provider_options": []},
        "filename": variant_path(variant),
        "head_size": config.head_dim,
        "hidden_size": config.n_embd,
        "num_attention_heads": config.n_head,
        "num_key_value_heads": config.n_head,
        "num_hidden_layers": config.n_layer,
        "inputs": {
            "input_ids": "input_ids",
            "attention_mask": "attention_mask",
            "position_ids": "position_ids",
            "past_key_names": "past_key_values.%d.key",
            "past_value_names": "past_key_values.%d.value",
        },
        "outputs": {
            "logits": "logits",
            "present_key_names": "present.%d.key",
            "present_value_names": "present.%d.value",
        },
    }
    model = {
        "type": _KIND,
        "context_length": config.n_positions,
        "vocab_size": config.vocab_size,
        "bos_token_id": (begin or ends)[0],
        "eos_token_id": ends if len(ends) > 1 else ends[0],
        "pad_token_id": (pad or ends)[0],
        "decoder": decoder,
    }
    search = _search(defaults)
    # In place, as the fused graph appends; beams take copies of one another's.
    search["past_present_share_buffer"] = (
        manifest.graph == "fused" and search.get("num_beams", 1) == 1
    )
    return {"model": model, "search": {**search, "max_length": config.n_positions}}


def _search(defaults: Mapping[str, Any]) -> dict[str, Any]:
    """Return those of the folder's defaults that GenAI understands."""
    return {name: value for name, value in defaults.items() if _is_understood(name, value)}


def _is_understood(name: str, value: object) -> bool:
    return (
        (name in _SWITCHES and isinstance(value, bool))
        or (name in _NUMBERS and isinstance(value, (int, float)) and is_number(value) and value > 0)
        or (name in _COUNTS and is_whole(value, 1, LARGEST_SIZE))
    )


def _ids(value: object) -> list[int]:
    """Return the tokens that one id or a list of them names."""
    ids = value if isinstance(value, list) else [value]
    return [one for one in ids if isinstance(one, int) and is_whole(one, 0, LARGEST_SIZE)]
