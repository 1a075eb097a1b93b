"""Readers on latents: what mouth, or how open eyes, the four frames of a latent show."""

from __future__ import annotations

import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..networks.audio_pack import FRAMES_PER_LATENT
from .initialisation import initialise
from .muon import make_optimisers
from .reader import READ_NAMES

Part = tuple[float, float, float, float]
MOUTH: Part = (0.5, 0.95, 0.2, 0.8)
EYES: Part = (0.28, 0.58, 0.2, 0.8)
"""Top, bottom, left, right, as shares of the picture, between which the drawn world keeps them."""
_LATENT_NOISE = 0.1


class LatentReader(nn.Module):
    """Three-layer perceptron on a part of a latent and of the one before it, as the decoder sees them."""

    def __init__(
        self, channels: int, height: int, width: int, *, part: Part = MOUTH, numbers: int = len(READ_NAMES)
    ) -> None:
        """numbers: that it reads of each frame."""
        super().__init__()
        top, bottom, left, right = part
        self._rows = slice(int(top * height), math.ceil(bottom * height))
        self._columns = slice(int(left * width), math.ceil(right * width))
        self._numbers = numbers
        cells = (self._rows.stop - self._rows.start) * (self._columns.stop - self._columns.start)
        self.layers = nn.Sequential(
            nn.Linear(2 * channels * cells, 256), nn.GELU(), nn.Linear(256, 64), nn.GELU(),
            nn.Linear(64, FRAMES_PER_LATENT * numbers),
        )  # fmt: skip

    def forward(self, before_BCTHW: Tensor, latents_BCTHW: Tensor) -> Tensor:
        """Latents and the ones before each -> (B, T, 4, numbers), about [0, 1]: their four frames."""
        seen = torch.cat([before_BCTHW, latents_BCTHW], dim=1)[..., self._rows, self._columns]
        read = self.layers(seen.transpose(1, 2).flatten(2))
        return read.unflatten(2, (FRAMES_PER_LATENT, self._numbers))


def mouths_of_latents(mouth_BFD: Tensor) -> Tensor:
    """True mouths of frames (B, 4T - 3, D) -> of latents (B, T, 4, 3), columns READ_NAMES."""
    return frames_of_latents(mouth_BFD[..., : len(READ_NAMES)])


def frames_of_latents(track_BFD: Tensor) -> Tensor:
    """What is true of frames (B, 4T - 3, D) -> of latents (B, T, 4, D); the first latent is one frame, four times."""
    padded = torch.cat([track_BFD[:, :1].expand(-1, FRAMES_PER_LATENT - 1, -1), track_BFD], dim=1)
    return padded.unflatten(1, (-1, FRAMES_PER_LATENT))


def with_predecessors(latents_BCTHW: Tensor) -> Tensor:
    """The latent before each of a clip's latents; the first one's is itself."""
    return torch.cat([latents_BCTHW[:, :, :1], latents_BCTHW[:, :, :-1]], dim=2)


def train_latent_reader(
    latents: np.ndarray,
    truth: np.ndarray,
    *,
    steps: int,
    device: torch.device,
    seed: int = 0,
    part: Part = MOUTH,
) -> LatentReader:
    """Train on clips (N, C, T, H, W) and what is true of their frames (N, 4T - 3, D), with noise on the latents.

    truth: mouths, of which READ_NAMES are read, or the one number of each frame that another part shows.
    """
    numbers = min(truth.shape[2], len(READ_NAMES))
    reader = LatentReader(latents.shape[1], *latents.shape[-2:], part=part, numbers=numbers)
    generator = torch.Generator().manual_seed(seed)
    initialise(reader, generator)
    reader.to(device)
    optimisers = make_optimisers(reader, matrix_lr=0.01, other_lr=0.001)
    random = np.random.default_rng(seed)
    for step in range(steps):
        for optimiser, peak in zip(optimisers, (0.01, 0.001), strict=True):
            optimiser.param_groups[0]["lr"] = peak * max(0.02, 1 - step / steps)
        chosen = random.integers(len(latents), size=24)
        clips = torch.from_numpy(latents[chosen].astype(np.float32))
        noisy = (clips + _LATENT_NOISE * torch.randn(clips.shape, generator=generator)).to(device)
        shown = frames_of_latents(torch.from_numpy(truth[chosen][..., :numbers])).to(device)
        F.mse_loss(reader(with_predecessors(noisy), noisy), shown).backward()
        for optimiser in optimisers:
            optimiser.step()
            optimiser.zero_grad(set_to_none=True)
    return reader.requires_grad_(False)
