"""Rewards that the drawn world can compute: how well a reader finds the true mouth, where it matters for a domain."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from ..networks.speech_encoder import MEL_PER_FRAME
from .data import Batch
from .latent_reader import LatentReader, mouths_of_latents
from .world.visemes import VISEMES

ExpertDomain = Literal["singing", "profile", "rare"]
Reward = Callable[[Tensor, Batch, range], Tensor]

_HELD_OPENING = 0.3
_HELD_CHANGE = 0.03
_RARE_VISEMES = 5
_NAMES = {"singing": (1.0, 0.0, 0.0), "profile": (1.0, 1.0, 1.0), "rare": (1.0, 1.0, 1.0)}


def held_vowels(mouth_BFD: Tensor, mel_BMA: Tensor) -> Tensor:
    """Weights (B, F): frames whose mouth is open and still, up to twice as much and more where the sound moves.

    A still mouth over a sound that moves is a note that changes on one vowel. The movement is the mean change of the
    mel bands from frame to frame, as a share of the clip's own mean, and counts beside 1.
    """
    opening = mouth_BFD[..., 0]
    change = opening.diff(dim=1).abs()
    before = torch.cat([change[:, :1], change], dim=1)
    after = torch.cat([change, change[:, -1:]], dim=1)
    held = (opening > _HELD_OPENING) & (before < _HELD_CHANGE) & (after < _HELD_CHANGE)
    sound = mel_BMA.unflatten(1, (-1, MEL_PER_FRAME)).mean(dim=2).diff(dim=1).abs().mean(dim=2)
    moving = torch.cat([sound[:, :1], sound], dim=1)
    return held * (1 + moving / moving.mean(dim=1, keepdim=True).clamp_min(1e-6))


def nearest_viseme(mouth_BFD: Tensor) -> Tensor:
    """Index in VISEMES of the shape that a mouth is closest to: (B, F, 5) -> (B, F)."""
    shapes = torch.tensor(list(VISEMES.values())).to(mouth_BFD)
    return (mouth_BFD[..., None, :] - shapes).square().sum(dim=-1).argmin(dim=-1)


def rare_visemes(mouth_NFD: np.ndarray) -> Tensor:
    """The five shapes, rest aside, that a bank's mouths (N, F, 5) take least often: indices in VISEMES, sorted."""
    counts = torch.bincount(
        nearest_viseme(torch.from_numpy(mouth_NFD).float()).flatten(), minlength=len(VISEMES)
    )
    counts[list(VISEMES).index("rest")] = counts.sum()
    return counts.argsort(stable=True)[:_RARE_VISEMES].sort().values


class ReadingReward:
    """Minus the weighted squared error of the mouths that a reader finds in latents (EchoTorrent 3.2, our rewards).

    singing: of the opening, in held vowels; profile: of the whole mouth, in clips of turned heads; rare: of the whole
    mouth, in frames of rare shapes. A window that shows none of it gets 0.
    """

    def __init__(self, domain: ExpertDomain, reader: LatentReader, rare: Tensor) -> None:
        """rare: what rare_visemes found in the bank."""
        self._domain, self._reader, self._rare = domain, reader, rare
        self._names = torch.tensor(_NAMES[domain])

    @torch.no_grad()
    def __call__(self, latents_BCTHW: Tensor, batch: Batch, places: range) -> Tensor:
        """Clean latents of a window of the batch's clips -> reward (B,); latent 0 of a clip is given and left out."""
        first = places.start
        before = batch.latents[:, :, first - 1 : first] if first else latents_BCTHW[:, :, :1]
        read = self._reader(torch.cat([before, latents_BCTHW[:, :, :-1]], dim=2), latents_BCTHW)
        truth = mouths_of_latents(batch.mouth)[:, places.start : places.stop]
        frames = mouths_of_latents(self._frames(batch)[..., None])[:, places.start : places.stop]
        weight = frames * self._names.to(frames)
        if first == 0:
            weight[:, 0] = 0.0
        error = (weight * (read - truth).square()).flatten(1).sum(dim=1)
        return -error / weight.flatten(1).sum(dim=1).clamp_min(1e-6)

    def _frames(self, batch: Batch) -> Tensor:
        """How much each frame of the clips counts (B, F)."""
        if self._domain == "singing":
            return held_vowels(batch.mouth, batch.mel)
        if self._domain == "rare":
            return torch.isin(nearest_viseme(batch.mouth), self._rare.to(batch.mouth.device)).float()
        return torch.ones_like(batch.mouth[..., 0])
