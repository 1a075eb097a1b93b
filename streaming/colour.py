"""Colours of a video drawn to those of its reference, so that a long stream does not drift.

After Reinhard et al., "Color transfer between images" (2001), in CIE Lab as SoulX-FlashTalk and InfiniteTalk use
it: per frame and channel, mean and deviation become the reference's.
"""

from __future__ import annotations

import torch
from torch import Tensor

XYZ_OF_RGB = (
    (0.4124564, 0.3575761, 0.1804375),
    (0.2126729, 0.7151522, 0.0721750),
    (0.0193339, 0.1191920, 0.9503041),
)
RGB_OF_XYZ = (
    (3.2404542, -1.5371385, -0.4985314),
    (-0.9692660, 1.8760108, 0.0415560),
    (0.0556434, -0.2040259, 1.0572252),
)
WHITE = (0.95047, 1.0, 1.08883)
EPSILON, KAPPA = 0.008856, 903.3
FLAT = 1e-8


def match_colours(video_BCFHW: Tensor, reference_BCHW: Tensor, *, strength: float = 1.0) -> Tensor:
    """Video and reference (B, 3, ..., H, W) in [-1, 1] -> the video in the reference's colours, in [-1, 1].

    strength: 0 leaves the video as it is, 1 gives it all of the reference's statistics. Works in float32 on the
    reference's device, frame by frame, so that memory does not grow with the chunk.
    """
    if strength == 0:
        return video_BCFHW
    reference = lab_of_rgb(_unit(reference_BCHW.float()))
    mean, deviation = _statistics(reference)
    out = torch.empty_like(video_BCFHW)
    for frame in range(video_BCFHW.shape[2]):
        source = _unit(video_BCFHW[:, :, frame].to(reference.device).float())
        lab = lab_of_rgb(source)
        own_mean, own_deviation = _statistics(lab)
        own_deviation = torch.where(own_deviation < FLAT, torch.ones_like(own_deviation), own_deviation)
        matched = rgb_of_lab((lab - own_mean) * (deviation / own_deviation) + mean)
        out[:, :, frame] = ((1.0 - strength) * source + strength * matched).to(out.dtype) * 2 - 1
    return out


def lab_of_rgb(rgb_BCHW: Tensor) -> Tensor:
    """sRGB (B, 3, H, W) in [0, 1] -> CIE Lab of the D65 white."""
    linear = torch.where(rgb_BCHW > 0.04045, ((rgb_BCHW + 0.055) / 1.055) ** 2.4, rgb_BCHW / 12.92)
    xyz = (_mix(XYZ_OF_RGB, linear) / _column(WHITE, linear)).clamp(1e-8, 1.0)
    x, y, z = torch.where(xyz > EPSILON, xyz ** (1 / 3), (KAPPA * xyz + 16) / 116).unbind(1)
    return torch.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], dim=1)


def rgb_of_lab(lab_BCHW: Tensor) -> Tensor:
    """CIE Lab (B, 3, H, W) -> sRGB, clamped to [0, 1]."""
    lightness, a, b = lab_BCHW.unbind(1)
    y = (lightness + 16) / 116
    f = torch.stack([y + a / 500, y, y - b / 200], dim=1)
    xyz = torch.where(f**3 > EPSILON, f**3, (116 * f - 16) / KAPPA).clamp_min(1e-8)
    linear = _mix(RGB_OF_XYZ, xyz * _column(WHITE, xyz)).clamp_min(0.0)
    curved = 1.055 * linear.clamp_min(FLAT) ** (1 / 2.4) - 0.055
    return torch.where(linear > 0.0031308, curved, 12.92 * linear).clamp(0.0, 1.0)


def _statistics(lab_BCHW: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and population deviation per channel: (B, 3, 1, 1) each."""
    return lab_BCHW.mean((-2, -1), keepdim=True), lab_BCHW.std((-2, -1), correction=0, keepdim=True)


def _unit(x: Tensor) -> Tensor:
    """[-1, 1] -> [0, 1]."""
    return ((x + 1) / 2).clamp(0.0, 1.0)


def _mix(matrix: tuple[tuple[float, ...], ...], x_BCHW: Tensor) -> Tensor:
    return torch.einsum("ij,bjhw->bihw", torch.tensor(matrix, device=x_BCHW.device), x_BCHW)


def _column(values: tuple[float, ...], like: Tensor) -> Tensor:
    return torch.tensor(values, device=like.device).view(3, 1, 1)
