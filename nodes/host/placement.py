"""A KV cache in main memory for a network on a device: keys and values travel at every layer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ...networks.cache_spec import CacheSpec
from ...networks.kv_cache import RingKVCache
from ...networks.rope import Rope


class MainMemoryCache:
    """Wraps a cache on the CPU; what the network sees of it is on the device. Same numbers, less device memory."""

    def __init__(self, kept: RingKVCache, device: torch.device) -> None:
        self._kept, self._device = kept, device
        self._rope: tuple[Rope, Rope] | None = None

    @property
    def spec(self) -> CacheSpec:
        """Of the wrapped cache."""
        return self._kept.spec

    @property
    def next_latent(self) -> int:
        """Number of the first latent to come."""
        return self._kept.next_latent

    @property
    def size_bytes(self) -> int:
        """Bytes in main memory; the device holds one layer's at a time."""
        return self._kept.size_bytes

    @property
    def rope(self) -> Rope:
        """Rotation of the running pass's tokens, moved once per chunk."""
        source = self._kept.rope
        if self._rope is None or self._rope[0] is not source:
            moved = Rope(source.cos_L1K.to(self._device), source.sin_L1K.to(self._device))
            self._rope = source, moved
        return self._rope[1]

    def positions(self) -> Sequence[int]:
        """Temporal positions of the running pass's latents."""
        return self._kept.positions()

    def begin_chunk(self, latents: int) -> None:
        """Start a chunk."""
        self._kept.begin_chunk(latents)

    def begin_pass(self, step: int) -> None:
        """Start a pass over the chunk."""
        self._kept.begin_pass(step)

    def end_chunk(self) -> None:
        """Make the chunk part of the past."""
        self._kept.end_chunk()

    def begin_sink(self, latents: int) -> None:
        """Start the pass that writes the sink."""
        self._kept.begin_sink(latents)

    def end_sink(self) -> None:
        """Put the new sink in place of the old one."""
        self._kept.end_sink()

    def extend(self, layer: int, k_BLD: Tensor, v_BLD: Tensor) -> tuple[Tensor, Tensor]:
        """Store a layer's keys and values; returns all that the layer sees, on the device."""
        k_BMD, v_BMD = self._kept.extend(layer, k_BLD.cpu(), v_BLD.cpu())
        return k_BMD.to(self._device), v_BMD.to(self._device)

    def reset(self, *, next_latent: int = 0) -> None:
        """Forget everything."""
        self._kept.reset(next_latent=next_latent)

    def state_dict(self) -> dict[str, Any]:
        """Of the wrapped cache."""
        return self._kept.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue where state_dict() was taken."""
        self._kept.load_state_dict(state)
