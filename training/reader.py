"""A reader of mouths: a small network that tells opening, width and roundness from pixels. Evaluation only."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .codec import to_tensor
from .crops import CROP_SIZE, mouth_crops
from .initialisation import initialise
from .muon import make_optimisers

READ_NAMES = ("open", "width", "round")


@dataclass(frozen=True)
class ReaderSettings:
    """How the reader is trained."""

    steps: int = 500
    batch: int = 128
    matrix_lr: float = 0.01
    other_lr: float = 0.001
    seed: int = 0


class MouthReader(nn.Module):
    """Three-layer perceptron on a mouth crop."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(3 * CROP_SIZE[0] * CROP_SIZE[1], 256), nn.GELU(), nn.Linear(256, 64), nn.GELU(),
            nn.Linear(64, len(READ_NAMES)),
        )  # fmt: skip

    def forward(self, crops_BCHW: Tensor) -> Tensor:
        """(B, 3, 32, 48) -> (B, 3), columns READ_NAMES, about [0, 1]."""
        return self.layers(crops_BCHW.flatten(1))

    @torch.no_grad()
    def read(self, frames: np.ndarray) -> np.ndarray:
        """Frames (F, H, W, 3) uint8 -> (F, 3) float32."""
        pixels = to_tensor(frames[None])[0].transpose(0, 1)
        return self(mouth_crops(pixels)).numpy()


def train_reader(frames: np.ndarray, mouth: np.ndarray, settings: ReaderSettings) -> MouthReader:
    """Train on pictures (N, H, W, 3) uint8 and their true mouths (N, 5), with small shifts and tints."""
    reader = MouthReader()
    initialise(reader, torch.Generator().manual_seed(settings.seed))
    optimisers = make_optimisers(reader, matrix_lr=settings.matrix_lr, other_lr=settings.other_lr)
    random = np.random.default_rng(settings.seed)
    truth = torch.from_numpy(mouth[:, : len(READ_NAMES)].astype(np.float32))
    for step in range(settings.steps):
        share = max(0.02, 1 - step / settings.steps)
        for optimiser, peak in zip(optimisers, (settings.matrix_lr, settings.other_lr), strict=True):
            optimiser.param_groups[0]["lr"] = peak * share
        chosen = np.sort(random.choice(len(frames), settings.batch, replace=False))
        pixels = to_tensor(frames[chosen][:, None])[:, :, 0]
        shift = tuple(int(v) for v in random.integers(-2, 3, 2))
        tint = torch.from_numpy(random.uniform(-0.05, 0.05, (len(chosen), 3, 1, 1)).astype(np.float32))
        crops = mouth_crops(torch.roll(pixels, shift, dims=(2, 3)) + tint)
        F.mse_loss(reader(crops), truth[chosen]).backward()
        for optimiser in optimisers:
            optimiser.step()
            optimiser.zero_grad(set_to_none=True)
    return reader.requires_grad_(False)
