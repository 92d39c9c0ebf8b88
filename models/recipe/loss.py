"""Cross entropy of a tied head, a slice of tokens at a time: logits stay in the CPU's cache."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

SLICE = 256  # tokens; 256 x 8k logits are 8 MB


def chunked_cross_entropy(hidden: Tensor, head: Tensor, labels: Tensor) -> Tensor:
    """Return the mean loss of `hidden [tokens, width]` under `head [vocab, width]`, a scalar.

    `labels [tokens]` are the tokens that follow. With torch.compile on both sides, 2,090 tokens a
    second on two cores instead of 1,600 with all logits in memory at once.
    """
    loss: Tensor = _ChunkedCrossEntropy.apply(hidden, head, labels)  # type: ignore[no-untyped-call]
    return loss


class _ChunkedCrossEntropy(torch.autograd.Function):
    """Computes both gradients in the forward pass, while a slice's logits are at hand."""

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, head: Tensor, labels: Tensor) -> Tensor:
        hidden_grad, head_grad = torch.empty_like(hidden), torch.zeros_like(head)
        total = hidden.new_zeros(())
        for start in range(0, len(labels), SLICE):
            rows, target = hidden[start : start + SLICE], labels[start : start + SLICE, None]
            logits = rows @ head.T
            normalizer = logits.logsumexp(-1, keepdim=True)
            total += (normalizer - logits.gather(1, target)).sum()
            error = logits.sub_(normalizer).exp_()
            error.scatter_add_(1, target, error.new_full(target.shape, -1.0))
            torch.mm(error, head, out=hidden_grad[start : start + SLICE])
            head_grad.addmm_(error.T, rows)
        ctx.save_for_backward(hidden_grad.div_(len(labels)), head_grad.div_(len(labels)))
        return total / len(labels)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor, Tensor, None]:
        hidden_grad, head_grad = ctx.saved_tensors
        return hidden_grad * grad_outputs[0], head_grad * grad_outputs[0], None
