"""What a bidirectional network predicts of a window of latents: with its speech, without, and guided by both."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..samplers.flow_matching import x0_from_velocity
from ..samplers.schedule import TIMESTEP_SCALE
from .conditions import Condition
from .data import Batch
from .precision import half_precision
from .student import TrainableStudent


@dataclass(frozen=True)
class Predictions:
    """Clean predictions x0 (B, C, T, H, W) of one noisy window: given its speech, and given none."""

    conditional: Tensor
    null: Tensor

    def guided(self, scale: float) -> Tensor:
        """null + scale * (conditional - null); 1 is the conditional prediction itself."""
        return self.null + scale * (self.conditional - self.null)


def place_given(x_BCTHW: Tensor, condition: Condition, places: Sequence[int]) -> tuple[Tensor, Tensor]:
    """A window with the portrait written wherever it holds latent 0 of a stream that begins with it.

    Returns the window and which of its latents are given: bool (T,).
    """
    given_T = torch.tensor([condition.clamped and place == 0 for place in places], device=x_BCTHW.device)
    known = condition.reference_BC1HW.to(x_BCTHW)
    return torch.where(given_T[:, None, None], known, x_BCTHW), given_T


def predict_velocity(
    network: TrainableStudent,
    x_BCTHW: Tensor,
    batch: Batch,
    places: Sequence[int],
    *,
    level_BT: Tensor,
    hears: bool | Tensor = True,
    text_BMD: Tensor | None = None,
    **options: Any,  # noqa: ANN401
) -> Tensor:
    """One call of a network on latents of a clip: velocity (B, C, T, H, W) in float32.

    places: the latents' indices in the clip, which say what they hear and what lies beside them. level_BT: their noise
    levels. hears: False gives zero speech features; (B,) says so per clip. options are those of ``wan_forward``.
    """
    with half_precision(x_BCTHW.device):
        speech = network.features(batch.mel)[:, list(places)]
        heard = torch.as_tensor(hears, device=x_BCTHW.device).view(-1, 1, 1)
        velocity = network(
            torch.cat([x_BCTHW, batch.condition.channels(places)], dim=1),
            timestep_BT=TIMESTEP_SCALE * level_BT,
            speech_BTV=torch.where(heard, speech, torch.zeros_like(speech)),
            text_BMD=text_BMD,
            **options,
        )
    return velocity.float()


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
    x, given_T = place_given(noisy_BCTHW, batch.condition, latents)
    level_BT = (sigma_B if sigma_B.ndim == 2 else sigma_B[:, None]) * ~given_T
    velocity = predict_velocity(network, x, batch, latents, level_BT=level_BT, hears=hears, text_BMD=text_BMD)
    return x0_from_velocity(x, velocity, level_BT[:, None, :, None, None])


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
