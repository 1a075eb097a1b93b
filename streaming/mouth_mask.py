"""Which part of an aligned face is made anew: one mask, in pixels, in latents, and soft for putting faces together.

Everywhere 1 (or True) is the region of the mouth, which the student generates, and 0 is what stays.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

_SIDE = 256
# The drawn region, in shares of the face crop: nearly its whole width, from the tip of the nose to below the chin.
_LEFT, _RIGHT, _TOP, _BOTTOM = 18 / 512, 496 / 512, 190 / 512, 486 / 512
_CORNER = 0.145  # height of the rounded upper corners, as a share of the region's
_OVERSAMPLING = 4


@dataclass(frozen=True, eq=False)
class MouthMask:
    """A mask over an aligned face crop, for any size of it.

    coverage: (256, 256) float32 in [0, 1], how far each cell belongs to the region of the mouth.
    """

    coverage_HW: Tensor

    @classmethod
    def drawn(cls) -> MouthMask:
        """Our own mask: straight at the top with rounded corners, half an ellipse below.

        Place, size and area (40.7 % of the crop) are those of LatentSync's mask, as Lip Forcing uses it.
        """
        fine = _SIDE * _OVERSAMPLING
        centres = (torch.arange(fine, dtype=torch.float64) + 0.5) / fine
        depth = ((centres - _TOP) / (_BOTTOM - _TOP)).clamp(0, 1)
        corner = (1 - (1 - depth / _CORNER).clamp(0, 1).square()).sqrt()
        half = (1 - depth.square()).sqrt() * corner
        half = half / half.max() * (_RIGHT - _LEFT) / 2
        across = (centres - (_LEFT + _RIGHT) / 2).abs()
        inside = (across[None] < half[:, None]).float()
        return cls(F.avg_pool2d(inside[None], _OVERSAMPLING)[0])

    @classmethod
    def of_picture(cls, keep_HW: Tensor) -> MouthMask:
        """A mask as LatentSync stores it, white (1) where the face stays: float (H, W) in [0, 1]."""
        return cls(1.0 - keep_HW.float())

    def pixels(self, height: int, width: int) -> Tensor:
        """Which pixels of a crop are blanked and generated: bool (H, W)."""
        return self._resized(height, width) >= 0.5

    def latents(self, height: int, width: int) -> Tensor:
        """The mask channel for latents of this size: float32 (h, w), zeros and ones."""
        return self.pixels(height, width).float()

    def soft(self, height: int, width: int) -> Tensor:
        """Share of the generated picture where a crop is put together: float32 (H, W) in [0, 1]."""
        return self._resized(height, width, antialias=True).clamp(0, 1)

    def blank(self, frames_BCTHW: Tensor) -> Tensor:
        """Frames in [-1, 1] with the region of the mouth in mid grey (0)."""
        mouth = self.pixels(*frames_BCTHW.shape[-2:]).to(frames_BCTHW.device)
        return frames_BCTHW.masked_fill(mouth, 0.0)

    def _resized(self, height: int, width: int, *, antialias: bool = False) -> Tensor:
        whole = self.coverage_HW[None, None]
        return F.interpolate(whole, (height, width), mode="bilinear", antialias=antialias)[0, 0]
