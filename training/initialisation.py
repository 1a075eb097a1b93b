"""Starting weights drawn from a generator that is passed in."""

from __future__ import annotations

import torch
from torch import nn


@torch.no_grad()
def initialise(module: nn.Module, generator: torch.Generator) -> None:
    """Unit-gain normal weights, zero biases."""
    for parameter in module.parameters():
        if parameter.ndim < 2:
            parameter.zero_()
        else:
            drawn = torch.randn(parameter.shape, generator=generator)
            parameter.copy_(drawn * parameter[0].numel() ** -0.5)
