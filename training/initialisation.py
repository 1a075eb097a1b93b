"""Starting weights drawn from a generator that is passed in."""

from __future__ import annotations

import torch
from torch import nn

_ADDED_GAIN = 0.3  # of what a residual block adds


@torch.no_grad()
def initialise(module: nn.Module, generator: torch.Generator) -> None:
    """Unit-gain normal weights, smaller ones (``mix``) at the end of residual blocks; zero biases."""
    for name, parameter in module.named_parameters():
        if parameter.ndim < 2:
            parameter.zero_()
        else:
            gain = _ADDED_GAIN if name.endswith("mix.weight") else 1.0
            drawn = torch.randn(parameter.shape, generator=generator)
            parameter.copy_(drawn * gain * parameter[0].numel() ** -0.5)
