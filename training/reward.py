"""Reward weighting: clips whose lips follow their speech weigh more in the student's update (Lip Forcing, Re-DMD)."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Protocol

import torch
from torch import Tensor

from ..networks.audio_pack import FRAMES_PER_LATENT
from ..networks.speech_encoder import MEL_PER_FRAME
from .data import Batch
from .latent_reader import LatentReader, mouths_of_latents, with_predecessors
from .parallel import averaged

_DECAY = 0.99
_SMALLEST_DEVIATION = 1e-6


class Confidence(Protocol):
    """How well the lips of a window follow its speech."""

    def __call__(self, latents_BCTHW: Tensor, batch: Batch, places: Sequence[int]) -> Tensor:
        """Confidence (B,), more is better; places: numbers of the latents in the clips."""
        ...


def reward_weights(confidence_B: Tensor, beta: float) -> Tensor:
    """exp(beta C) over its mean in the batch: (B,) of mean 1. Log-sum-exp: no C overflows; one clip weighs 1."""
    return len(confidence_B) * torch.softmax(beta * confidence_B.float(), dim=0)


class RewardScale:
    """beta from what was seen so far: 1 / running standard deviation of C, so that std(beta C) is about 1."""

    def __init__(self) -> None:
        self._weight = self._mean = self._square = 0.0

    def update(self, confidence_B: Tensor) -> float:
        """Take in a batch of all processes and return beta; 0 while all C were the same."""
        values = confidence_B.double()
        seen = averaged({"mean": values.mean().item(), "square": values.square().mean().item()})
        self._weight = _DECAY * self._weight + 1 - _DECAY
        self._mean = _DECAY * self._mean + (1 - _DECAY) * seen["mean"]
        self._square = _DECAY * self._square + (1 - _DECAY) * seen["square"]
        mean = self._mean / self._weight
        deviation = math.sqrt(max(0.0, self._square / self._weight - mean**2))
        return 1 / deviation if deviation > _SMALLEST_DEVIATION else 0.0

    def state_dict(self) -> dict[str, Any]:
        """Running sums."""
        return {"weight": self._weight, "mean": self._mean, "square": self._square}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Inverse of state_dict."""
        self._weight, self._mean, self._square = (state[name] for name in ("weight", "mean", "square"))


class ReaderConfidence:
    """Minus the error of the mouths that a reader finds in the latents, against the drawn clips' true ones."""

    def __init__(self, reader: LatentReader) -> None:
        self._reader = reader

    @torch.no_grad()
    def __call__(self, latents_BCTHW: Tensor, batch: Batch, places: Sequence[int]) -> Tensor:
        """(B,), at most 0: minus the root of the mean squared error over frames and mouth numbers."""
        error = reading_errors(self._reader, latents_BCTHW, batch, places)
        return -error.square().flatten(1).mean(dim=1).sqrt()


class SyncConfidence:
    """Sync-C of the decoded mouths, by the sync teacher."""

    def __init__(self, reward: Callable[..., Tensor]) -> None:
        """reward: a SyncReward."""
        self._reward = reward

    def __call__(self, latents_BCTHW: Tensor, batch: Batch, places: Sequence[int]) -> Tensor:
        """(B,). A later window is decoded as a clip of its own, whose first latent is one frame and is not scored."""
        frame = FRAMES_PER_LATENT * places[0]
        if not frame:
            return self._reward(latents_BCTHW, batch)
        place = None if batch.place is None else batch.place[:, frame:]
        heard = replace(batch, mel=batch.mel[:, MEL_PER_FRAME * frame :], place=place)
        return self._reward(latents_BCTHW, heard, first_latent=1)


def reading_errors(
    reader: LatentReader, latents_BCTHW: Tensor, batch: Batch, places: Sequence[int]
) -> Tensor:
    """Read minus true mouths of a window, (B, T, 4, 3), see errors_of."""
    return errors_of(reader, latents_BCTHW, mouths_of_latents(batch.mouth), places)


def errors_of(
    reader: LatentReader, latents_BCTHW: Tensor, truth_BTFD: Tensor, places: Sequence[int]
) -> Tensor:
    """Read minus true numbers of a window, (B, T, 4, D). The first latent of a later window is left at 0.

    A latent is read beside the one before it, which such a window does not hold. truth: of all of the clip's latents.
    """
    read = reader(with_predecessors(latents_BCTHW), latents_BCTHW)
    error = read - truth_BTFD[:, list(places)]
    if places[0] == 0:
        return error
    return torch.cat([torch.zeros_like(error[:, :1]), error[:, 1:]], dim=1)


def mean_reading_error(
    reader: LatentReader, latents_BCTHW: Tensor, batch: Batch, places: Sequence[int], counts_BT: Tensor
) -> Tensor:
    """Mean square of the reading errors of those latents of a sequence that count and follow the one before them."""
    errors = reading_errors(reader, latents_BCTHW, batch, places)
    follows = [place == before + 1 for before, place in zip([-2, *places], places, strict=False)]
    weight_BT = counts_BT * counts_BT.new_tensor(follows)
    return (errors.square().mean((2, 3)) * weight_BT).sum() / weight_BT.sum().clamp_min(1)
