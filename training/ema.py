"""Exponential moving average of a module's weights."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn


class ExponentialAverage:
    """Running average of every trained parameter; early on the decay is shortened so that the start is forgotten."""

    def __init__(self, module: nn.Module, *, decay: float) -> None:
        if not 0.0 <= decay < 1.0:
            raise ValueError(f"decay is {decay}; expected 0 <= decay < 1")
        self._decay = decay
        self._updates = 0
        self._shadow = {name: p.detach().clone() for name, p in module.named_parameters() if p.requires_grad}

    @torch.no_grad()
    def update(self, module: nn.Module) -> None:
        """Move the average towards the module's weights."""
        self._updates += 1
        decay = min(self._decay, self._updates / (self._updates + 10))
        for name, parameter in module.named_parameters():
            if name in self._shadow:
                self._shadow[name].lerp_(parameter, 1 - decay)

    @torch.no_grad()
    def restart(self, module: nn.Module) -> None:
        """Forget the past: the average is the module's weights as they are."""
        self._updates = 0
        for name, parameter in module.named_parameters():
            if name in self._shadow:
                self._shadow[name].copy_(parameter)

    @torch.no_grad()
    def copy_to(self, module: nn.Module) -> None:
        """Overwrite a module's weights with the average."""
        for name, parameter in module.named_parameters():
            if name in self._shadow:
                parameter.copy_(self._shadow[name])

    @contextmanager
    def applied_to(self, module: nn.Module) -> Iterator[None]:
        """Run a block with the averaged weights, then put the module's own back."""
        own = {name: p.detach().clone() for name, p in module.named_parameters() if name in self._shadow}
        self.copy_to(module)
        try:
            yield
        finally:
            with torch.no_grad():
                for name, parameter in module.named_parameters():
                    if name in own:
                        parameter.copy_(own[name])

    def state_dict(self) -> dict[str, Tensor | int]:
        """The averaged weights and the number of updates."""
        return {"updates": self._updates, **self._shadow}

    def load_state_dict(self, state: dict[str, Tensor | int]) -> None:
        """Inverse of state_dict."""
        self._updates = int(state["updates"])
        for name, tensor in self._shadow.items():
            tensor.copy_(state[name])
