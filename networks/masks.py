"""Attention masks for whole sequences that are trained as if they were streamed."""

from __future__ import annotations

import torch
from torch import Tensor

from .cache_spec import CacheSpec


def chunk_causal_mask(
    spec: CacheSpec,
    latents: int,
    tokens: int,
    *,
    layer: int = 0,
    sink: int = 0,
    device: torch.device | str | None = None,
) -> Tensor:
    """What each token of a clip may see under the rules of a cache: bool (L, L), True = seen.

    L = (sink + latents) * tokens. A latent sees its own chunk, the history before the chunk and the sink latents.
    sink: latents in front of the clip that stand for a sink pass of their own; they see each other alone. A sink of
    first latents needs none: it lies in the clip.

    One masked forward equals a stream whose cache holds the same, equally noisy, latents (Lip Forcing, section 4.1):
    in mode ``per_step`` with all latents at one step's level just what its step sees, while positions agree.
    Raises ValueError where the latents are not whole chunks or a sink in front does not fit the cache.
    """
    if latents % spec.chunk:
        raise ValueError(f"{latents} latents are not whole chunks of {spec.chunk}.")
    from_clip = spec.sink_source == "first_latents"
    if sink > (0 if from_clip else spec.sink):
        raise ValueError(
            f"got {sink} sink latents before the clip; this cache takes its sink from {spec.sink_source} "
            f"and holds {spec.sink}."
        )
    index = torch.arange(-sink, latents, device=device)
    first = torch.where(index < 0, -sink, index.div(spec.chunk, rounding_mode="floor") * spec.chunk)
    past_end = torch.where(index < 0, 0, first + spec.chunk)
    local = index[None] >= (first - spec.history_of(layer))[:, None]
    kept = index < (spec.sink if from_clip else 0)
    seen = (index[None] < past_end[:, None]) & (local | kept[None])
    return seen.repeat_interleave(tokens, 0).repeat_interleave(tokens, 1)


def chunk_causal_masks(
    spec: CacheSpec,
    latents: int,
    tokens: int,
    *,
    sink: int = 0,
    device: torch.device | str | None = None,
) -> tuple[Tensor, ...]:
    """One chunk_causal_mask for each layer of the cache's pattern, which repeats over the network's layers."""
    return tuple(
        chunk_causal_mask(spec, latents, tokens, layer=layer, sink=sink, device=device)
        for layer in range(len(spec.history))
    )
