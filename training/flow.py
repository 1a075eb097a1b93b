"""What all flow-matching stages share: the loss of one noisy window, one update, the held-out loss."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..networks.speech_encoder import SpeechEncoderConfig
from ..networks.wan import WanConfig
from ..samplers.flow_matching import add_noise, velocity_target, x0_from_velocity
from .data import Batch
from .ema import ExponentialAverage
from .losses import weighted_mse
from .mouth_region import mouth_region
from .muon import make_optimisers
from .parallel import Draws, draw, update
from .prediction import place_given, predict_velocity
from .sharded_tensors import state_placed_like
from .sharding import shard
from .student import TrainableStudent, importance, make_student, widen_input

_EVALUATIONS = 4
_EVALUATION_CLIPS = 8


@dataclass(frozen=True)
class FlowSettings:
    """Numbers that every flow-matching stage has: batch, rates, where the loss looks, running average, seed.

    hearing_only: train nothing but the layers that make tokens of speech and add them, all by AdamW at other_lr: few
    weights, which clips that are few do not teach by heart.
    """

    batch: int = 8
    matrix_lr: float = 0.01
    other_lr: float = 0.001
    shift: float = 5.0
    mouth_weight: float = 5.0
    eye_weight: float = 2.0
    ema_decay: float = 0.995
    seed: int = 0
    hearing_only: bool = False


def flow_loss(
    student: TrainableStudent,
    batch: Batch,
    noise: Tensor,
    *,
    places: Sequence[int],
    level_BT: Tensor,
    weight_BT: Tensor,
    importance: Tensor,
    hears: bool | Tensor = True,
    text_BMD: Tensor | None = None,
    **options: Any,  # noqa: ANN401
) -> tuple[Tensor, Tensor]:
    """Weighted squared error of the predicted velocity against noise - x0 (Lipman et al. 2022, rectified form).

    Returns it and the clean latents (B, C, T, H, W) that the prediction stands for.

    noise: like the clip's latents at these places. level_BT: noise level of each latent, 0 to 1. weight_BT: how much
    each latent counts; what is given counts nothing. importance: of each place in the picture, (H, W) or (B, 1, T, H,
    W). The rest goes to ``predict_velocity``.
    """
    x0 = batch.latents[:, :, list(places)]
    noisy = add_noise(x0, noise, level_BT[:, None, :, None, None])
    x, given_T = place_given(noisy, batch.condition, places)
    velocity = predict_velocity(
        student, x, batch, places, level_BT=level_BT, hears=hears, text_BMD=text_BMD, **options
    )
    weight = weight_BT.to(x0) * ~given_T
    loss = weighted_mse(velocity, velocity_target(x0, noise), weight[:, None, :, None, None] * importance)
    return loss, x0_from_velocity(x, velocity, level_BT[:, None, :, None, None])


class FlowStage:
    """A network behind a speech encoder that stays as it is. A subclass says what a batch is and what it costs."""

    settings: FlowSettings
    loss_name: str

    def __init__(
        self,
        settings: FlowSettings,
        bank: Any,  # noqa: ANN401
        held_out: Any,  # noqa: ANN401
        *,
        network: WanConfig,
        speech: SpeechEncoderConfig | None,
        size: tuple[int, int],
        reads_text: bool = False,
        device: torch.device = torch.device("cpu"),  # noqa: B008
        sharded: bool = False,
    ) -> None:
        """bank, held_out: what the subclass draws batches from. size: height and width of a latent.

        sharded: split the network over the processes.
        """
        self.settings, self._bank, self._held_out, self._device = settings, bank, held_out, device
        self.student = make_student(network, speech, seed=settings.seed, device=device, reads_text=reads_text)
        self.student.encoder.requires_grad_(False)
        if settings.hearing_only:
            self.student.learn_to_hear_alone()
        if sharded:
            shard(self.student)
        self.average = ExponentialAverage(self.student, decay=settings.ema_decay)
        self.optimisers = make_optimisers(
            self.student, matrix_lr=settings.matrix_lr, other_lr=settings.other_lr,
            keep_adam=lambda name: settings.hearing_only or _keeps_adam(name),
        )  # fmt: skip
        weights = importance(*size, mouth=settings.mouth_weight, eyes=settings.eye_weight)
        self._importance = weights.to(device)

    def start_from(self, weights: dict[str, Tensor]) -> None:
        """Begin with the weights of a student that may see fewer input channels, its speech encoder among them."""
        wide = widen_input(weights, self.student.network.in_dim)
        self.student.load_state_dict(state_placed_like(self.student.state_dict(), wide))
        self.average = ExponentialAverage(self.student, decay=self.settings.ema_decay)

    def _draw(self, bank: Any, random: np.random.Generator, *, clips: int, warp: bool) -> Any:  # noqa: ANN401
        """One batch of a bank."""
        raise NotImplementedError

    def _loss(self, batch: Any, drawn: Draws) -> Tensor:  # noqa: ANN401
        """Its loss, all randomness from what was drawn; which latents of the clips it sees is shared."""
        raise NotImplementedError

    def _importance_at(self, batch: Batch, places: Sequence[int]) -> Tensor:
        """Where the loss of these latents looks: (H, W), or (B, 1, T, H, W) where clips tell where their mouths are."""
        if batch.place is None:
            return self._importance
        mouth = 1 + (self.settings.mouth_weight - 1) * mouth_region(batch, places, edge=1.0)[:, None]
        return torch.maximum(self._importance, self._importance.min() * mouth)

    def _noise(self, like: Tensor, generator: torch.Generator) -> Tensor:
        """Normal noise, drawn on the CPU so that every device sees the same."""
        return torch.randn(like.shape, generator=generator).to(like)

    @property
    def networks(self) -> dict[str, TrainableStudent]:
        """What trains."""
        return {"student": self.student}

    def loss(self, drawn: Draws) -> Tensor:
        """Loss of one batch."""
        batch = self._draw(self._bank, drawn.own, clips=self.settings.batch, warp=True)
        return self._loss(batch.to(self._device), drawn)

    def step(self, step: int, progress: float) -> dict[str, Tensor]:
        """One update on one batch."""
        loss = self.loss(draw(self.settings.seed, step))
        update(self.optimisers, loss, self.student, max_norm=1.0)
        self.average.update(self.student)
        return {self.loss_name: loss.detach()}

    @torch.no_grad()
    def evaluate(self) -> dict[str, float]:
        """Loss of held-out clips with fixed noise, by the averaged weights."""
        random, generator = np.random.default_rng(1), torch.Generator().manual_seed(1)
        with self.average.applied_to(self.student):
            losses = []
            for _ in range(_EVALUATIONS):
                batch = self._draw(self._held_out, random, clips=_EVALUATION_CLIPS, warp=False)
                losses.append(self._loss(batch.to(self._device), Draws(random, random, generator)).item())
        return {self.loss_name: sum(losses) / len(losses)}

    def state_dict(self) -> dict[str, Any]:
        """Weights and their running average."""
        return {"student": self.student.state_dict(), "average": self.average.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Inverse of state_dict."""
        self.student.load_state_dict(state["student"])
        self.average.load_state_dict(state["average"])


def _keeps_adam(name: str) -> bool:
    """Embeddings, head and modulation do better with AdamW."""
    return any(part in name for part in ("patch_embedding", "head.head", "modulation", "text_embedding"))
