"""What a bidirectional network predicts of a window of latents: with its speech, without, and guided by both."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..samplers.flow_matching import x0_from_velocity
from ..samplers.schedule import TIMESTEP_SCALE
from .data import Batch
from .student import TrainableStudent


@dataclass(frozen=True)
class Predictions:
    """Clean predictions x0 (B, C, T, H, W) of one noisy window: given its speech, and given none."""

    conditional: Tensor
    null: Tensor

    def guided(self, scale: float) -> Tensor:
        """null + scale * (conditional - null); 1 is the conditional prediction itself."""
        return self.null + scale * (self.conditional - self.null)


def predict_x0(
    network: TrainableStudent,
    noisy_BCTHW: Tensor,
    sigma_B: Tensor,
    batch: Batch,
    latents: Sequence[int],
    *,
    hears: bool | Tensor = True,
    text_BMD: Tensor | None = None,
) -> Tensor:
    """Clean prediction of a window in one call, without a mask: (B, C, T, H, W).

    noisy_BCTHW: the window at level sigma_B: (B,) of every latent of a clip, or (B, T) of each. Latent 0 of a stream is
    not part of it where a portrait is given: it is clamped here, at level 0. latents: the window's places in the clip.
    hears: False gives zero speech features; (B,) says so per clip. Gradients flow where torch records them.
    """
    x = noisy_BCTHW
    level_BT = sigma_B if sigma_B.ndim == 2 else sigma_B[:, None].expand(-1, len(latents))
    if batch.condition.clamped and latents[0] == 0:
        x = batch.condition.clamp(x)
        level_BT = torch.cat([torch.zeros_like(level_BT[:, :1]), level_BT[:, 1:]], dim=1)
    with torch.autocast(x.device.type, torch.bfloat16):
        speech = network.features(batch.mel)[:, list(latents)]
        heard = torch.as_tensor(hears, device=x.device).view(-1, 1, 1)
        velocity = network(
            torch.cat([x, batch.condition.channels(latents)], dim=1),
            timestep_BT=TIMESTEP_SCALE * level_BT,
            speech_BTV=torch.where(heard, speech, torch.zeros_like(speech)),
            text_BMD=text_BMD,
        )
    return x0_from_velocity(x, velocity.float(), level_BT[:, None, :, None, None])


def predict_both(
    network: TrainableStudent,
    noisy_BCTHW: Tensor,
    sigma_B: Tensor,
    batch: Batch,
    latents: Sequence[int],
    *,
    text_BMD: Tensor | None = None,
) -> Predictions:
    """The two predictions that guidance needs, under the same text."""
    heard, deaf = (
        predict_x0(network, noisy_BCTHW, sigma_B, batch, latents, hears=hears, text_BMD=text_BMD)
        for hears in (True, False)
    )
    return Predictions(heard, deaf)
