"""Causal initialisation by regression on a teacher's trajectories (CausVid; LiveTalk, section 9).

The student sees a sequence of a stream whose chunks stand at noise levels of their own along the teacher's trajectory,
and says where it ends. It runs until the held-out error falls no more.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..networks.cache_spec import CacheSpec
from ..networks.speech_encoder import SpeechEncoderConfig
from ..networks.wan import WanConfig
from ..samplers.flow_matching import x0_from_velocity
from .data import LatentBank
from .flow import FlowSettings, FlowStage
from .losses import weighted_mse
from .parallel import Draws, agreed
from .prediction import place_given, predict_velocity
from .sequences import Sequence, draw_sequence
from .teacher_sampling import TeacherSampling
from .trajectories import TrajectoryBank, TrajectoryBatch, draw_trajectories


@dataclass(frozen=True)
class OdeSettings(FlowSettings):
    """Numbers of the regression stage.

    pairs, held_out_pairs: trajectories to make. sampling: of the teacher. clean_share: of past chunks that are clean,
    for a clean cache. early_share: of sequences that begin the clip. patience: evaluations without a lower held-out
    error after which the stage ends, 0 for never.
    """

    pairs: int = 128
    held_out_pairs: int = 16
    sampling: TeacherSampling = field(default_factory=TeacherSampling)
    clean_share: float = 0.4
    early_share: float = 0.35
    patience: int = 5


class OdeStage(FlowStage):
    """Trains the causal network on trajectories, behind a speech encoder that is given."""

    settings: OdeSettings
    loss_name = "ode"

    def __init__(
        self,
        settings: OdeSettings,
        bank: tuple[LatentBank, TrajectoryBank],
        held_out: tuple[LatentBank, TrajectoryBank],
        *,
        network: WanConfig,
        speech: SpeechEncoderConfig | None,
        cache: CacheSpec,
        device: torch.device = torch.device("cpu"),  # noqa: B008
        sharded: bool = False,
    ) -> None:
        """bank, held_out: clips and the trajectories that belong to them. cache: the window that sequences imitate."""
        size = bank[0].latents.shape[-2:]
        super().__init__(
            settings,
            bank,
            held_out,
            network=network,
            speech=speech,
            size=size,
            device=device,
            sharded=sharded,
        )
        self._cache, self._tokens = cache, (size[0] // 2) * (size[1] // 2)
        self._best, self._waited = math.inf, 0

    @property
    def finished(self) -> bool:
        """Whether the held-out error has stopped falling."""
        return 0 < self.settings.patience <= self._waited

    def _draw(
        self,
        bank: tuple[LatentBank, TrajectoryBank],
        random: np.random.Generator,
        *,
        clips: int,
        warp: bool,
    ) -> TrajectoryBatch:
        """The speech stays as the teacher heard it, whatever warp says."""
        return draw_trajectories(*bank, random, clips=clips)

    def _loss(self, taken: TrajectoryBatch, drawn: Draws) -> Tensor:
        clips, clean = len(taken.states), taken.states.shape[1] - 1
        sequence = draw_sequence(
            drawn.shared, spec=self._cache, clip_chunks=taken.states.shape[3] // self._cache.chunk,
            early_share=self.settings.early_share,
        )  # fmt: skip
        level_BN = self._levels(clips, sequence, drawn.own, clean=clean)
        learn_BN = torch.tensor(sequence.learnable()) & (level_BN < clean)
        level_BT = (sequence.by_latent(level_BN - clean) + clean).to(self._device)  # a sink in front is clean
        places = sequence.places()
        x, given_T = place_given(states_at(taken.states, level_BT, places), taken.batch.condition, places)
        sigma_BT = torch.from_numpy(self._bank[1].sigmas).to(x)[level_BT]
        velocity = predict_velocity(
            self.student, x, taken.batch, places, level_BT=sigma_BT, positions=sequence.positions(),
            attention_mask_LL=sequence.masks(self._tokens, device=self._device),
        )  # fmt: skip
        x0 = x0_from_velocity(x, velocity, sigma_BT[:, None, :, None, None])
        weight = sequence.by_latent(learn_BN.float()).to(x) * ~given_T
        end = taken.states[:, -1][:, :, places]
        return weighted_mse(
            x0, end, weight[:, None, :, None, None] * self._importance_at(taken.batch, places)
        )

    def _levels(self, clips: int, sequence: Sequence, random: np.random.Generator, *, clean: int) -> Tensor:
        """Which state each chunk is in, (B, chunks): its own with a clean cache, one for all with one per step."""
        chunks = len(sequence.chunks)
        if self._cache.mode == "per_step":
            return torch.from_numpy(random.integers(clean, size=(clips, 1))).repeat(1, chunks)
        levels = random.integers(clean, size=(clips, chunks))
        levels[:, :-1][random.random((clips, chunks - 1)) < self.settings.clean_share] = clean
        return torch.from_numpy(levels)

    def evaluate(self) -> dict[str, float]:
        """Error on held-out trajectories, by the averaged weights; remembers whether it still falls."""
        numbers = super().evaluate()
        error = agreed(numbers[self.loss_name])  # one whose last digit differs must end when the others do
        lower = error < self._best
        self._best = min(self._best, error)
        self._waited = 0 if lower else self._waited + 1
        return numbers

    def state_dict(self) -> dict[str, Any]:
        """Weights, their running average, and how long the error has not fallen."""
        return {**super().state_dict(), "best": self._best, "waited": self._waited}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Inverse of state_dict."""
        super().load_state_dict(state)
        self._best, self._waited = state["best"], state["waited"]


def states_at(states_BLCTHW: Tensor, level_BT: Tensor, places: list[int]) -> Tensor:
    """Of each latent the state that level names: (B, L + 1, C, T, H, W) -> (B, C, len(places), H, W)."""
    latent = states_BLCTHW[:, :, :, places].transpose(2, 3)
    clip = torch.arange(len(latent), device=latent.device)[:, None]
    place = torch.arange(len(places), device=latent.device)[None]
    return latent[clip, level_BT, place].transpose(1, 2)
