"""A perceptual distance of pictures without a borrowed network: what SyncNet's lip trunk sees of them."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from .syncnet import LipTrunk

_SMALLEST_SIDE = 8


def features(trunk: LipTrunk, pixels_BCTHW: Tensor) -> list[Tensor]:
    """Pictures in [-1, 1], whole or cut -> the trunk's maps (B * T, c, h, w), unit length along c at every position.

    Raises ValueError for sides below 8 pixels, where the last map would be empty of context.
    """
    if min(pixels_BCTHW.shape[-2:]) < _SMALLEST_SIDE:
        raise ValueError(
            f"pictures of {tuple(pixels_BCTHW.shape[-2:])} are too small; give sides of {_SMALLEST_SIDE} or more"
        )
    maps = trunk(pixels_BCTHW.transpose(1, 2).flatten(0, 1))
    return [F.normalize(x, dim=1, eps=1e-6) for x in maps]


def perceptual_loss(trunk: LipTrunk, output_BCTHW: Tensor, target_BCTHW: Tensor) -> Tensor:
    """Sum over the maps of the mean squared length of their difference, in [0, 4 * maps].

    LPIPS (Zhang et al. 2018, equation 1) with all weights 1. No gradient reaches the target.
    """
    with torch.no_grad():
        wanted = features(trunk, target_BCTHW)
    shown = features(trunk, output_BCTHW)
    return sum(((a - b).square().sum(dim=1).mean() for a, b in zip(shown, wanted, strict=True)), start=0.0)
