"""A GPT-2 checkpoint in llama.cpp's format."""

from __future__ import annotations

import json
from pathlib import Path

import gguf
import numpy as np
import torch
from transformers import AutoTokenizer, GPT2LMHeadModel


def write_gguf(checkpoint: Path, target: Path) -> None:
    """Write the checkpoint in float32 as llama.cpp's own converter lays a GPT-2 out."""
    model = GPT2LMHeadModel.from_pretrained(checkpoint, dtype=torch.float32)
    config = model.config
    tokenizer = json.loads(AutoTokenizer.from_pretrained(checkpoint).backend_tokenizer.to_str())
    vocabulary, merges = tokenizer["model"]["vocab"], tokenizer["model"]["merges"]
    vocabulary |= {token["content"]: token["id"] for token in tokenizer["added_tokens"]}
    names_by_id = {number: name for name, number in vocabulary.items()}
    tokens = [
        names_by_id.get(number, f"<|unused {number}|>") for number in range(config.vocab_size)
    ]
    writer = gguf.GGUFWriter(target, "gpt2")
    writer.add_block_count(config.n_layer)
    writer.add_context_length(config.n_positions)
    writer.add_embedding_length(config.n_embd)
    writer.add_feed_forward_length(config.n_inner or 4 * config.n_embd)
    writer.add_head_count(config.n_head)
    writer.add_layer_norm_eps(config.layer_norm_epsilon)
    writer.add_file_type(gguf.LlamaFileType.ALL_F32)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(tokens)
    writer.add_token_merges([m if isinstance(m, str) else " ".join(m) for m in merges])
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.GPT2, config.n_layer)
    for name, parameter in model.named_parameters():
        array = parameter.detach().numpy()
        if array.ndim == 2 and ".h." in name:
            array = np.ascontiguousarray(array.T)
        writer.add_tensor(names.get_name(name, (".weight", ".bias")), array)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
