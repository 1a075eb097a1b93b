"""Speech features to audio tokens: four vectors of video frames become one token per latent frame.

After OmniAvatar's AudioPack as LiveTalk (section 2.2) and Lip Forcing use it.
"""

from __future__ import annotations

from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

FRAMES_PER_LATENT = 4


def pack_vectors(vectors_BAC: Tensor, *, prefix_copies: int = 3) -> Tensor:
    """Lay four consecutive vectors side by side, time outermost: (B, A, C) -> (B, T, 4 * C).

    prefix_copies: copies of vector 0 put in front (3 at the start of a stream, 0 in its middle).
    Raises ValueError where A + prefix_copies is not a multiple of four.
    """
    if prefix_copies:
        first = vectors_BAC[:, :1].expand(-1, prefix_copies, -1)
        vectors_BAC = torch.cat([first, vectors_BAC], dim=1)
    count = vectors_BAC.shape[1]
    if count % FRAMES_PER_LATENT:
        raise ValueError(
            f"{count} audio vectors (with {prefix_copies} copies in front) do not fill whole latents; "
            f"give a multiple of {FRAMES_PER_LATENT}."
        )
    return vectors_BAC.unflatten(1, (-1, FRAMES_PER_LATENT)).flatten(2)


def injected_layers(layers: int) -> range:
    """Layers before which an audio token is added: 2 .. layers // 2."""
    return range(2, layers // 2 + 1)


class AudioPack(nn.Module):
    """Packed speech vectors to audio tokens: a linear layer and a layer norm."""

    def __init__(
        self,
        width_in: int,
        width_out: int,
        *,
        operations: ModuleType | Any = nn,  # noqa: ANN401
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        """width_in: 4 x numbers per video frame; width_out: width of an audio token (32)."""
        super().__init__()
        self.proj = operations.Linear(width_in, width_out, device=device, dtype=dtype)
        self.norm_out = operations.LayerNorm(width_out, eps=1e-5, device=device, dtype=dtype)

    def forward(self, packed_BTX: Tensor) -> Tensor:
        """(B, T, 4 * C) from pack_vectors -> audio tokens (B, T, E)."""
        return self.norm_out(self.proj(packed_BTX))
