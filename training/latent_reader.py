"""A reader of mouths on latents: what opening, width and roundness four frames of a latent show."""

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

_TOP, _BOTTOM, _LEFT, _RIGHT = 0.5, 0.95, 0.2, 0.8  # the drawn world keeps its mouths here
_LATENT_NOISE = 0.1


class LatentReader(nn.Module):
    """Three-layer perceptron on the mouth's part of a latent and of the one before it, as the decoder sees them."""

    def __init__(self, channels: int, height: int, width: int) -> None:
        super().__init__()
        self._rows = slice(int(_TOP * height), math.ceil(_BOTTOM * height))
        self._columns = slice(int(_LEFT * width), math.ceil(_RIGHT * width))
        cells = (self._rows.stop - self._rows.start) * (self._columns.stop - self._columns.start)
        self.layers = nn.Sequential(
            nn.Linear(2 * channels * cells, 256), nn.GELU(), nn.Linear(256, 64), nn.GELU(),
            nn.Linear(64, FRAMES_PER_LATENT * len(READ_NAMES)),
        )  # fmt: skip

    def forward(self, before_BCTHW: Tensor, latents_BCTHW: Tensor) -> Tensor:
        """Latents and the ones before each -> (B, T, 4, 3): their four frames, columns READ_NAMES, about [0, 1]."""
        seen = torch.cat([before_BCTHW, latents_BCTHW], dim=1)[..., self._rows, self._columns]
        read = self.layers(seen.transpose(1, 2).flatten(2))
        return read.unflatten(2, (FRAMES_PER_LATENT, len(READ_NAMES)))


def mouths_of_latents(mouth_BFD: Tensor) -> Tensor:
    """True mouths of frames (B, 4T - 3, D) -> of latents (B, T, 4, 3); the first latent is one frame, four times."""
    named = mouth_BFD[..., : len(READ_NAMES)]
    padded = torch.cat([named[:, :1].expand(-1, FRAMES_PER_LATENT - 1, -1), named], dim=1)
    return padded.unflatten(1, (-1, FRAMES_PER_LATENT))


def with_predecessors(latents_BCTHW: Tensor) -> Tensor:
    """The latent before each of a clip's latents; the first one's is itself."""
    return torch.cat([latents_BCTHW[:, :, :1], latents_BCTHW[:, :, :-1]], dim=2)


def train_latent_reader(
    latents: np.ndarray, mouth: np.ndarray, *, steps: int, device: torch.device, seed: int = 0
) -> LatentReader:
    """Train on clips (N, C, T, H, W) and their true mouths (N, 4T - 3, 5), with noise on the latents."""
    reader = LatentReader(latents.shape[1], *latents.shape[-2:])
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
        truth = mouths_of_latents(torch.from_numpy(mouth[chosen])).to(device)
        F.mse_loss(reader(with_predecessors(noisy), noisy), truth).backward()
        for optimiser in optimisers:
            optimiser.step()
            optimiser.zero_grad(set_to_none=True)
    return reader.requires_grad_(False)
