"""Tensors that lie in parts in several processes: made whole for files and matrices, split again as others are."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def is_sharded(tensor: Tensor) -> bool:
    """Whether a tensor lies in parts in all processes."""
    return hasattr(tensor, "device_mesh")


def whole(tensor: Tensor) -> Tensor:
    """A tensor with all of its parts; of a sharded one every process must ask."""
    return tensor.full_tensor() if is_sharded(tensor) else tensor


def placed_like(template: Tensor, tensor: Tensor) -> Tensor:
    """A whole tensor, which all processes hold, split as the template is."""
    if not is_sharded(template) or is_sharded(tensor):
        return tensor
    from torch.distributed.tensor import distribute_tensor

    there = tensor.to(template.device)
    return distribute_tensor(there, template.device_mesh, template.placements, src_data_rank=None)


def whole_state(state: Any) -> Any:  # noqa: ANN401
    """Nested state with every sharded tensor made whole, on the CPU; what is not sharded stays as it is."""
    if isinstance(state, dict):
        return {name: whole_state(value) for name, value in state.items()}
    if isinstance(state, (list, tuple)):
        return type(state)(whole_state(value) for value in state)
    return whole(state).cpu() if isinstance(state, Tensor) and is_sharded(state) else state


def state_placed_like(template: Any, state: Any) -> Any:  # noqa: ANN401
    """Nested state with every tensor split as the template's of the same name; other entries stay as they are."""
    if isinstance(state, dict) and isinstance(template, dict):
        return {name: state_placed_like(template.get(name), value) for name, value in state.items()}
    if isinstance(state, Tensor) and isinstance(template, Tensor):
        return placed_like(template, state)
    return state


def optimiser_state_placed(optimiser: torch.optim.Optimizer, state: dict[str, Any]) -> dict[str, Any]:
    """An optimiser's whole state with every tensor of a parameter's size split as that parameter is."""
    parameters = [parameter for group in optimiser.param_groups for parameter in group["params"]]
    placed = {
        index: {
            name: placed_like(parameters[index], value) if _has_size_of(parameters[index], value) else value
            for name, value in entries.items()
        }
        for index, entries in state["state"].items()
    }
    return {**state, "state": placed}


def _has_size_of(parameter: Tensor, value: Any) -> bool:  # noqa: ANN401
    return isinstance(value, Tensor) and value.shape == parameter.shape
