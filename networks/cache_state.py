"""A KV cache between two chunks as a dict of tensors and counters, and back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from .cache_plan import Timeline
from .cache_spec import CacheSpec


def saved(timeline: Timeline, buffers: Mapping[str, Tensor]) -> dict[str, Any]:
    """Counters, and all buffers copied to the CPU. Raises RuntimeError while a chunk or a sink pass is open."""
    counters = timeline.counters()
    return {**counters, **{name: tensor.to("cpu", copy=True) for name, tensor in buffers.items()}}


def restored(spec: CacheSpec, buffers: Mapping[str, Tensor], state: Mapping[str, Any]) -> Timeline:
    """Fill the buffers from what saved() returned. Raises ValueError where it came from another kind of cache."""
    counters = Timeline(spec).counters()
    if set(state) != {*buffers, *counters}:
        raise ValueError("the saved cache has other buffers; it belongs to another cache setting.")
    for name, tensor in buffers.items():
        if state[name].shape != tensor.shape or state[name].dtype != tensor.dtype:
            raise ValueError(
                f"saved buffer {name} is {tuple(state[name].shape)} {state[name].dtype}; "
                f"this cache has {tuple(tensor.shape)} {tensor.dtype}."
            )
    for name, tensor in buffers.items():
        tensor.copy_(state[name])
    return Timeline(spec, **{name: int(state[name]) for name in counters})
