"""Attention masks for whole sequences that are trained as if they were streamed."""

from __future__ import annotations

import torch
from torch import Tensor

from .cache_spec import CacheSpec


def chunk_causal_mask(
    spec: CacheSpec, latents: int, tokens: int, *, layer: int = 0, device: torch.device | str | None = None
) -> Tensor:
    """What each token of a clip may see under the rules of a cache: bool (L, L), True = seen, L = latents * tokens.

    A latent sees its own chunk, the history before the chunk and the sink latents. With the ``absolute`` sink rule
    one masked forward equals a stream whose cache holds the same, equally noisy, latents (Lip Forcing, section 4.1).
    Raises ValueError where the latents are not whole chunks or the sink is not made of the clip's own latents.
    """
    if latents % spec.chunk:
        raise ValueError(f"{latents} latents are not whole chunks of {spec.chunk}.")
    if spec.sink_source != "first_latents" or spec.mode != "clean":
        raise ValueError("only a clean cache with a sink of first latents can be written as one mask.")
    index = torch.arange(latents, device=device)
    first = index // spec.chunk * spec.chunk
    key, start = index[None], first[:, None]
    local = key >= start - spec.history_of(layer)
    seen = (key < start + spec.chunk) & (local | (key < spec.sink))
    return seen.repeat_interleave(tokens, 0).repeat_interleave(tokens, 1)
