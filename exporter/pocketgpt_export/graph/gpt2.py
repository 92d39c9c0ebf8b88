"""GPT-2 as the modules to trace: packed attention with its cache, 3-D products, one embedding.

Parameters keep their names in transformers (`transformer.h.0.attn.c_attn.weight`), and so do the
initializers of the traced graph. Shapes below: B batch, S tokens given, T tokens with the past
(the length of the mask), D width, H heads of K.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn
from torch.onnx.ops import symbolic, symbolic_multi_out
from transformers import GPT2ForSequenceClassification
from transformers.models.gpt2.modeling_gpt2 import GPT2MLP, GPT2Attention, GPT2Block
from transformers.pytorch_utils import Conv1D

from ..source.classifier import GPT2

Past = list[tuple[Tensor, Tensor]]

_INT32 = 6  # onnx.TensorProto.INT32
# The tanh approximation under each of its names in transformers; one kernel does them all.
_TANH_GELUS = frozenset({"gelu_new", "gelu_fast", "gelu_pytorch_tanh", "gelu_accurate"})


class Projection(nn.Module):
    """Conv1D as a 3-D product and a bias: `[B, S, in] -> [B, S, out]` without reshapes."""

    def __init__(self, conv: Conv1D) -> None:
        super().__init__()
        self.weight, self.bias = conv.weight, conv.bias

    def forward(self, x: Tensor) -> Tensor:
        return torch.matmul(x, self.weight) + self.bias


class Attention(nn.Module):
    """Causal self-attention by ONNX Runtime's GroupQueryAttention, queries to values packed."""

    def __init__(self, attention: GPT2Attention) -> None:
        super().__init__()
        self.c_attn = Projection(attention.c_attn)
        self.c_proj = Projection(attention.c_proj)
        self.num_heads: int = attention.num_heads
        self.head_dim: int = attention.head_dim
        self.scale = self.head_dim**-0.5 if attention.scale_attn_weights else 1.0
        if attention.scale_attn_by_inverse_layer_idx:
            self.scale /= attention.layer_idx + 1

    def forward(
        self, x: Tensor, past: tuple[Tensor, Tensor], lengths: Lengths
    ) -> tuple[Tensor, Tensor, Tensor]:
        cache_shape = [x.shape[0], self.num_heads, lengths.mask_length, self.head_dim]
        output, key, value = symbolic_multi_out(
            "com.microsoft::GroupQueryAttention",
            [self.c_attn(x), None, None, *past, lengths.last_index, lengths.total],
            {
                "num_heads": self.num_heads,
                "kv_num_heads": self.num_heads,
                "scale": self.scale,
                "do_rotary": 0,
            },
            dtypes=[x.dtype, x.dtype, x.dtype],
            shapes=[x.shape, cache_shape, cache_shape],
            version=1,
        )
        return self.c_proj(output), key, value


class Lengths:
    """Each row's length, from the mask alone, in the forms that attention asks for.

    `last_index [B]` int32 is the index of a row's last token; `total` int32 the mask's length as a
    scalar tensor, `mask_length` the same as a dimension.
    """

    def __init__(self, attention_mask: Tensor) -> None:
        self.last_index_64 = attention_mask.sum(1) - 1
        self.last_index = self.last_index_64.to(torch.int32)
        self.mask_length = attention_mask.shape[1]
        shape = symbolic(
            "Shape", [attention_mask], {"start": 1, "end": 2}, dtype=torch.int64, shape=[1]
        )
        scalar = symbolic("Squeeze", [shape], dtype=torch.int64, shape=[])
        self.total = symbolic("Cast", [scalar], {"to": _INT32}, dtype=torch.int32, shape=[])


class MLP(nn.Module):
    """The feed-forward half of a block."""

    def __init__(self, mlp: GPT2MLP, activation: str) -> None:
        super().__init__()
        self.c_fc, self.c_proj = Projection(mlp.c_fc), Projection(mlp.c_proj)
        self.act = mlp.act
        self.fast_gelu = activation in _TANH_GELUS

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.c_fc(x)
        if self.fast_gelu:
            activated = symbolic(
                "com.microsoft::FastGelu", [hidden], dtype=x.dtype, shape=hidden.shape, version=1
            )
        else:
            activated = self.act(hidden)
        projected: Tensor = self.c_proj(activated)
        return projected


class Block(nn.Module):
    """One layer: attention, then the feed-forward half, each after a LayerNorm and added back."""

    def __init__(self, block: GPT2Block, activation: str) -> None:
        super().__init__()
        self.ln_1, self.ln_2 = block.ln_1, block.ln_2
        self.attn, self.mlp = Attention(block.attn), MLP(block.mlp, activation)

    def forward(
        self, x: Tensor, past: tuple[Tensor, Tensor], lengths: Lengths
    ) -> tuple[Tensor, Tensor, Tensor]:
        attended, key, value = self.attn(self.ln_1(x), past, lengths)
        x = x + attended
        return x + self.mlp(self.ln_2(x)), key, value


class Transformer(nn.Module):
    """Embeddings and blocks, without the head."""

    def __init__(self, model: GPT2) -> None:
        super().__init__()
        body, activation = model.transformer, model.config.activation_function
        self.wte, self.wpe, self.ln_f = body.wte, body.wpe, body.ln_f
        self.h = nn.ModuleList(Block(cast(GPT2Block, block), activation) for block in body.h)

    def embed(self, input_ids: Tensor, position_ids: Tensor, attention_mask: Tensor) -> Tensor:
        # Padding on the left would be answered wrongly, and ONNX cannot assert: positions beyond
        # the table make its Gather raise.
        padded_left = 1 - attention_mask[:, :1]
        positions = position_ids + padded_left * self.wpe.num_embeddings
        embedded: Tensor = self.wte(input_ids) + self.wpe(positions)
        return embedded


class FusedGPT2(nn.Module):
    """The whole graph: ids, mask, positions and past in; logits and the grown cache out."""

    def __init__(self, model: GPT2) -> None:
        super().__init__()
        self.transformer = Transformer(model)
        self.score = self.lm_head = None
        if isinstance(model, GPT2ForSequenceClassification):
            self.score = model.score
        elif model.lm_head.weight is not model.transformer.wte.weight:
            self.lm_head = model.lm_head

    @property
    def head_weight(self) -> Tensor:
        """What the head multiplies by, `[logits, D]`."""
        weight: Tensor = (self.score or self.lm_head or self.transformer.wte).weight
        return weight

    def forward(
        self,
        input_ids: Tensor,  # [B, S]
        attention_mask: Tensor,  # [B, T]: ones, then zeros
        position_ids: Tensor,  # [B, S]
        past: Past,  # a layer: two of [B, H, past, K]
        num_logits_to_keep: Tensor,  # [], 0 for all
    ) -> tuple[Tensor, Past]:
        lengths = Lengths(attention_mask)
        hidden = self.transformer.embed(input_ids, position_ids, attention_mask)
        present = []
        for block, layer_past in zip(self.transformer.h, past, strict=True):
            hidden, key, value = block(hidden, layer_past, lengths)
            present.append((key, value))
        last_in_row = lengths.last_index_64 - position_ids[:, 0]
        kept = keep_last(hidden, last_in_row, num_logits_to_keep)
        return self.head(self.transformer.ln_f(kept)), present

    def head(self, hidden: Tensor) -> Tensor:
        # The product reads the embedding as it lies, [V, D]: a transposed constant would be a
        # second copy. A classifier's `score` lies so, too.
        weight = self.head_weight
        return symbolic(
            "com.microsoft::FusedMatMul",
            [hidden, weight],
            {"transB": 1},
            dtype=hidden.dtype,
            shape=[*hidden.shape[:2], weight.shape[0]],
            version=1,
        )


def keep_last(hidden: Tensor, last_in_row: Tensor, count: Tensor) -> Tensor:
    """Return each row's `count` hidden states up to its last token, or all where `count` is 0.

    Args:
        hidden: `[B, S, D]`.
        last_in_row: `[B]`, the index within S of each row's last token.
        count: scalar. The result is `[B, count or S, D]`.
    """
    batch, tokens, width = hidden.shape
    keep_all = count == 0
    wanted = torch.where(keep_all, tokens, count)
    first = torch.where(keep_all, 0, last_in_row - count + 1)
    zero, one = torch.zeros((), dtype=torch.int64), torch.ones((), dtype=torch.int64)
    # The declared lengths are the tracer's only: the true one is known when the graph runs.
    offsets = symbolic("Range", [zero, wanted, one], dtype=torch.int64, shape=[tokens])
    # Not clamp: OpenVINO computes a Clip of int64 that has no upper bound as 0.
    index = torch.maximum(first[:, None] + offsets, zero)
    return symbolic(
        "GatherND",
        [hidden, index[:, :, None]],
        {"batch_dims": 1},
        dtype=hidden.dtype,
        shape=[batch, tokens, width],
    )
