"""Pictures as floats and as bytes."""

from __future__ import annotations

import torch
from torch import Tensor


def to_bytes(frames: Tensor, *, low: float = -1.0, high: float = 1.0) -> Tensor:
    """Floats in [low, high] -> uint8 0 .. 255 on the CPU, any shape; values outside are clipped.

    Rounds to the nearest level (halves to even), so low, middle and high give 0, 128 and 255 and a round trip
    through from_bytes is exact. Raises ValueError for NaN: a black picture would hide it.
    """
    scaled = (frames.float() - low) * (255.0 / (high - low))
    if bool(torch.isnan(scaled).any()):
        raise ValueError(
            "the pictures hold NaN: the model or the VAE overflowed; try float32, or another VAE file"
        )
    return scaled.round_().clamp_(0, 255).to(torch.uint8).cpu()


def from_bytes(frames: Tensor, *, low: float = -1.0, high: float = 1.0) -> Tensor:
    """uint8 -> float32 in [low, high], any shape."""
    return frames.float() * ((high - low) / 255.0) + low


def channels_last(video_CFHW: Tensor) -> Tensor:
    """(C, F, H, W) as the decoder gives it, or with a batch of one in front -> (F, H, W, C), a view."""
    if video_CFHW.ndim == 5:
        if video_CFHW.shape[0] != 1:
            raise ValueError(f"got a batch of {video_CFHW.shape[0]} videos; expected one")
        video_CFHW = video_CFHW[0]
    if video_CFHW.ndim != 4:
        raise ValueError(f"got a video of shape {tuple(video_CFHW.shape)}; expected (C, F, H, W)")
    return video_CFHW.permute(1, 2, 3, 0)
