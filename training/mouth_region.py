"""Where the mouth is on the latent grid: one soft mask per latent."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ..networks.audio_pack import FRAMES_PER_LATENT
from .data import Batch

DRAWN_MOUTH = (0.5, 0.71, 0.22, 0.14)
"""Box that holds the mouth of a drawn portrait looking ahead: centre x, y, half width, half height."""


def mouth_region(batch: Batch, latents: Sequence[int], *, edge: float) -> Tensor:
    """How far each cell belongs to the mouth: (B, T, H, W) in [0, 1], for these latents of the clips.

    1 where the cell's centre lies in the mouth's box of any frame of the latent, falling linearly to 0 over so many
    cells (edge) outside it. Clips that do not tell where their mouth is get the drawn portrait's.
    """
    size, height, width = len(batch.latents), *batch.latents.shape[-2:]
    if batch.place is None:
        place = batch.latents.new_tensor(DRAWN_MOUTH).expand(size, len(latents), 1, 4)
    else:
        first = batch.place[:, :1].expand(-1, FRAMES_PER_LATENT - 1, -1)
        framed = torch.cat([first, batch.place], dim=1).unflatten(1, (-1, FRAMES_PER_LATENT))
        place = framed[:, list(latents)]
    x, y, half_width, half_height = place.unbind(-1)
    across = _centres(width, place)[None, None, None] - x[..., None]
    down = _centres(height, place)[None, None, None] - y[..., None]
    outside = torch.maximum(
        ((across.abs() - half_width[..., None]) * width)[..., None, :],
        ((down.abs() - half_height[..., None]) * height)[..., None],
    )
    soft = (1 - outside / edge if edge else (outside <= 0).to(outside)).clamp(0, 1)
    return soft.amax(dim=2)


def _centres(cells: int, like: Tensor) -> Tensor:
    return (torch.arange(cells, device=like.device, dtype=like.dtype) + 0.5) / cells
