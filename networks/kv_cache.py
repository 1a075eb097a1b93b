"""The KV cache as the network sees it: RingKVCache and StagedKVCache serve streams, GrowingKVCache training."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import torch
from torch import Tensor

from .cache_plan import CLEAN_PASS
from .cache_spec import CacheSpec
from .growing_cache import GrowingKVCache
from .ring_cache import RingKVCache
from .rope import Rope
from .staged_cache import StagedKVCache

__all__ = [
    "CLEAN_PASS",
    "CacheSpec",
    "GrowingKVCache",
    "KVCache",
    "RingKVCache",
    "StagedKVCache",
    "make_cache",
]


class KVCache(Protocol):
    """Past of a stream: what each layer of the running pass attends to.

    Order of calls per chunk: begin_chunk, then for every pass begin_pass and one extend per layer, then
    end_chunk. A sink that is not made of the stream's own first latents is written by begin_sink, one extend
    per layer, end_sink.
    """

    spec: CacheSpec
    next_latent: int

    @property
    def rope(self) -> Rope:
        """Rotation of the running pass's tokens."""
        ...

    def positions(self) -> Sequence[int]:
        """Temporal positions of the running pass's latents."""
        ...

    def begin_chunk(self, latents: int) -> None:
        """Start the chunk ``next_latent .. next_latent + latents - 1``."""
        ...

    def begin_pass(self, step: int) -> None:
        """Start a pass over the chunk: a denoising step, or CLEAN_PASS."""
        ...

    def end_chunk(self) -> None:
        """Make the chunk part of the past."""
        ...

    def begin_sink(self, latents: int) -> None:
        """Start the pass that writes the sink from ``latents`` latents of their own."""
        ...

    def end_sink(self) -> None:
        """Put the new sink in place of the old one."""
        ...

    def extend(self, layer: int, k_BLD: Tensor, v_BLD: Tensor) -> tuple[Tensor, Tensor]:
        """Hand in a layer's keys (after their norm, before rotation) and values of the running pass.

        Returns the rotated keys and the values of everything that layer sees: (B, M, D) each.
        """
        ...


def make_cache(
    spec: CacheSpec,
    *,
    home: torch.device | str | None = None,
    eight_bit: bool = False,
    **sizes: Any,  # noqa: ANN401
) -> RingKVCache | StagedKVCache:
    """An empty cache for a stream: in place, unless its past is to lie elsewhere or in eight bits.

    home, eight_bit: as StagedKVCache takes them; sizes: what both take.
    """
    if home is None and not eight_bit:
        return RingKVCache(spec, **sizes)
    return StagedKVCache(spec, home=home, eight_bit=eight_bit, **sizes)
