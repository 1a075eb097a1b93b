"""Making drawn mouths look as codecs and students show them: moved, tinted, blurred, smeared in time, noisy."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor


def moved_boxes(boxes_BF4: Tensor, random: np.random.Generator) -> Tensor:
    """Boxes of B clips, each clip's moved, scaled and half of the time mirrored, with a little shake per frame."""
    clips, frames = boxes_BF4.shape[:2]
    moved = boxes_BF4.clone()
    drift = random.uniform(-0.025, 0.025, (clips, 1, 2)) + random.normal(0, 0.002, (clips, frames, 2))
    scale = np.exp(random.uniform(-0.1, 0.1, (clips, 1, 1)))
    moved[..., :2] += torch.from_numpy(drift).float()
    moved[..., 2:] *= torch.from_numpy(scale).float()
    moved[..., 2] *= torch.from_numpy(random.choice([-1.0, 1.0], (clips, 1))).float()
    return moved


def degraded(crops_BFCHW: Tensor, random: np.random.Generator) -> Tensor:
    """Crops in [-1, 1] of B clips, each clip with its own gain and tint, blur, smear in time, noise."""
    return torch.stack([_degraded_clip(clip, random) for clip in crops_BFCHW])


def _degraded_clip(clip_FCHW: Tensor, random: np.random.Generator) -> Tensor:
    gain = random.uniform(0.75, 1.2)
    tint = torch.from_numpy(random.uniform(-0.12, 0.12, (3, 1, 1)).astype(np.float32))
    clip = clip_FCHW * gain + tint.to(clip_FCHW)
    if random.random() < 0.5:
        size = [max(4, round(side / random.uniform(1.2, 2.6))) for side in clip.shape[-2:]]
        small = F.interpolate(clip, size=size, mode="bilinear", antialias=True)
        clip = F.interpolate(small, size=clip.shape[-2:], mode="bilinear")
    if random.random() < 0.3:
        share = random.uniform(0.1, 0.5)
        around = torch.cat([clip[:1], clip, clip[-1:]])
        clip = (1 - share) * clip + share / 2 * (around[:-2] + around[2:])
    level = random.uniform(0, 0.08)
    noise = random.standard_normal(tuple(clip.shape), dtype=np.float32)
    return clip + level * torch.from_numpy(noise).to(clip)
