"""Muon: momentum whose matrix updates are orthogonalised (Jordan et al. 2024), AdamW for everything else."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn

from .sharded_tensors import placed_like, whole

_COEFFICIENTS = (3.4445, -4.7750, 2.0315)


def orthogonalise(matrices: Tensor, *, steps: int = 5) -> Tensor:
    """(..., rows, columns) -> nearest half-orthogonal matrices, about, by a quintic Newton-Schulz iteration in bf16."""
    a, b, c = _COEFFICIENTS
    tall = matrices.shape[-2] > matrices.shape[-1]
    x = matrices.mT if tall else matrices
    x = (x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)).bfloat16()
    for _ in range(steps):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    return (x.mT if tall else x).to(matrices.dtype)


class Muon(torch.optim.Optimizer):
    """Orthogonalised Nesterov momentum for weights of two or more axes; filters are flattened to matrices.

    Matrices of one shape are orthogonalised together, which on a GPU takes a fraction of the launches. Of sharded
    weights the momentum is sharded too; every process gathers each matrix and orthogonalises all of it, which is exact
    and slow: the largest networks rather take AdamW.
    """

    def __init__(self, parameters: Iterable[nn.Parameter], *, lr: float, momentum: float = 0.95) -> None:
        super().__init__(parameters, {"lr": lr, "momentum": momentum})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:
        """One update; parameters without a gradient stay."""
        for group in self.param_groups:
            moving = [parameter for parameter in group["params"] if parameter.grad is not None]
            directions = [self._direction(parameter, momentum=group["momentum"]) for parameter in moving]
            for members in _alike(directions):
                changes = orthogonalise(torch.stack([directions[i] for i in members]))
                scale = max(1.0, changes.shape[-2] / changes.shape[-1]) ** 0.5
                for i, change in zip(members, changes, strict=True):
                    parameter = moving[i]
                    parameter.add_(
                        placed_like(parameter, change.view(parameter.shape)), alpha=-group["lr"] * scale
                    )

    def _direction(self, parameter: nn.Parameter, *, momentum: float) -> Tensor:
        """The gradient with its momentum, as a whole matrix (rows, columns)."""
        state = self.state[parameter]
        if not state:
            state["velocity"] = torch.zeros_like(parameter)
        velocity = state["velocity"]
        velocity.lerp_(parameter.grad, 1 - momentum)
        return whole(parameter.grad.lerp(velocity, momentum)).flatten(1)


def _alike(matrices: list[Tensor]) -> Iterable[list[int]]:
    """Numbers of the matrices of each shape, device and type, in the order of the first of each."""
    groups: dict[tuple[object, ...], list[int]] = {}
    for i, matrix in enumerate(matrices):
        groups.setdefault((matrix.shape, matrix.device, matrix.dtype), []).append(i)
    return groups.values()


def make_optimisers(
    module: nn.Module,
    *,
    matrix_lr: float,
    other_lr: float,
    keep_adam: Callable[[str], bool] = lambda name: False,
) -> list[torch.optim.Optimizer]:
    """Muon for the weight matrices of a module, AdamW for biases, gains and whatever keep_adam names."""
    matrices, others = [], []
    for name, parameter in module.named_parameters():
        if parameter.requires_grad:
            rows = parameter.shape[0] if parameter.ndim >= 2 else 1
            is_matrix = min(rows, parameter.numel() // rows) > 1 and not keep_adam(name)
            (matrices if is_matrix else others).append(parameter)
    optimisers: list[torch.optim.Optimizer] = []
    if matrices:
        optimisers.append(Muon(matrices, lr=matrix_lr))
    if others:
        optimisers.append(torch.optim.AdamW(others, lr=other_lr, betas=(0.9, 0.98), weight_decay=0.0))
    return optimisers
