"""The optimizer of the recipe: Muon for the layers' matrices, AdamW for everything else."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

# Quintic Newton-Schulz coefficients, from https://kellerjordan.github.io/posts/muon/
COEFFICIENTS = (3.4445, -4.7750, 2.0315)


def orthogonalize(matrix: Tensor, steps: int = 5) -> Tensor:
    """Return the nearest (semi-)orthogonal matrix to `matrix`, roughly: singular values near 1.

    torch.optim.Muon does the same in bfloat16, which a CPU without bfloat16 instructions emulates
    about fifty times slower than this float32 version.
    """
    a, b, c = COEFFICIENTS
    wide = matrix if matrix.shape[0] <= matrix.shape[1] else matrix.T
    x: Tensor = wide / wide.norm().clamp(min=1e-7)
    for _ in range(steps):
        gram = x @ x.T
        x = torch.addmm(x, torch.addmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x if matrix.shape[0] <= matrix.shape[1] else x.T


class MuonWithAdamW(torch.optim.AdamW):
    """AdamW whose groups marked `orthogonal` are stepped by Muon with Nesterov momentum instead.

    The update's root mean square is scaled to 0.2 (https://arxiv.org/abs/2502.16982), so that one
    learning rate fits both kinds of group.
    """

    def __init__(self, model: torch.nn.Module, lr: float, weight_decay: float = 0.1) -> None:
        matrices: list[Tensor] = []
        others: list[Tensor] = []
        for name, parameter in model.named_parameters():
            is_matrix = parameter.ndim == 2 and ".h." in name
            (matrices if is_matrix else others).append(parameter)
        groups: list[dict[str, Any]] = [
            {"params": matrices, "orthogonal": True, "weight_decay": weight_decay},
            {"params": others, "orthogonal": False, "weight_decay": 0.0},
        ]
        super().__init__(groups, lr=lr, betas=(0.9, 0.95))

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        for group in self.param_groups:
            if group["orthogonal"]:
                for parameter in group["params"]:
                    self._step_matrix(parameter, group["lr"], group["weight_decay"])
        loss: float | None = super().step(closure)
        return loss

    def _step_matrix(self, parameter: Tensor, lr: float, weight_decay: float) -> None:
        if parameter.grad is None:
            return
        state = self.state[parameter]
        if not state:
            state["momentum_buffer"] = torch.zeros_like(parameter)
            state["step"] = torch.tensor(0.0)  # unused here; AdamW asks for it when state is loaded
        momentum = state["momentum_buffer"]
        momentum.lerp_(parameter.grad, 0.05)
        update = orthogonalize(parameter.grad.lerp(momentum, 0.95))
        parameter.mul_(1 - lr * weight_decay)
        parameter.add_(update, alpha=-lr * 0.2 * max(parameter.shape) ** 0.5)
        parameter.grad = None  # AdamW's own step passes over parameters without a gradient
