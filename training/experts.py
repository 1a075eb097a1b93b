"""Experts: copies of the teacher that learn one domain from rewards, by GRPO on a stochastic sampler.

After EchoTorrent, section 3.2 (a teacher ensemble of preference pathways); the algorithm is Flow-GRPO's: groups of
samples per clip, rewards normalised in their group, the clipped ratio of transition probabilities, a pull to the
teacher.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..samplers.guidance import Guidance
from ..samplers.schedule import Schedule, shifted_sigmas
from .data import Batch, LatentBank, draw_batch
from .domain_rewards import ExpertDomain, Reward
from .ema import ExponentialAverage
from .muon import make_optimisers
from .parallel import Draws, apply_gradients, draw
from .policy import clipped_loss, group_advantages
from .prediction import place_given
from .sde import NoisyPath, sample_path, transition
from .student import TrainableStudent
from .teacher import draw_window
from .teacher_sampling import Teacher, sample_window

_HELD_OUT_CLIPS = 8


@dataclass(frozen=True)
class ExpertSettings:
    """Numbers of the expert stage.

    domain: of the clips and of the reward. clips, group: conditions of an update and samples of each. window,
    middle_share: as of the teacher stage. steps, shift: of the sampler; strength: of its noise. picked: steps whose
    transitions an update learns from, drawn anew for each of the updates on one set of samples. clip: of the ratio,
    whose logarithm is a mean over numbers. pull: weight of the divergence from the teacher.
    """

    domain: ExpertDomain
    clips: int = 2
    group: int = 8
    window: int = 9
    middle_share: float = 0.5
    steps: int = 10
    shift: float = 5.0
    strength: float = 0.7
    text_guidance: float = 1.0
    audio_guidance: float = 1.0
    picked: int = 4
    updates: int = 2
    clip: float = 0.001
    pull: float = 0.04
    lr: float = 0.0001
    reader_steps: int = 800
    ema_decay: float = 0.95
    seed: int = 0

    def __post_init__(self) -> None:
        """Raises ValueError for a group without a comparison or more picked steps than draw noise."""
        if self.group < 2:
            raise ValueError(f"group is {self.group} samples; a group needs at least 2 to compare")
        if not 1 <= self.picked < self.steps:
            raise ValueError(
                f"picked is {self.picked} of {self.steps} steps; the last one draws no noise: pick 1 to "
                f"{self.steps - 1}"
            )
        if self.strength <= 0:
            raise ValueError(
                f"strength is {self.strength}; without noise there is no probability to learn from"
            )


class ExpertStage:
    """Trains all weights of a copy of the teacher, its speech encoder aside, at a small rate."""

    def __init__(
        self,
        settings: ExpertSettings,
        bank: LatentBank,
        held_out: LatentBank,
        *,
        teacher: TrainableStudent,
        reward: Reward,
    ) -> None:
        """teacher: starts the expert and holds it back. reward(latents, batch, places) -> (B,)."""
        self.settings, self._bank, self._held_out, self._reward = settings, bank, held_out, reward
        self._device = next(teacher.parameters()).device
        guidance = Guidance(text=settings.text_guidance, audio=settings.audio_guidance)
        self._teacher = Teacher(teacher.eval().requires_grad_(False), guidance=guidance)
        self.student = copy.deepcopy(teacher).requires_grad_(True)
        self.student.encoder.requires_grad_(False)
        self._policy = Teacher(self.student, guidance=guidance)
        self.average = ExponentialAverage(self.student, decay=settings.ema_decay)
        self.optimisers = make_optimisers(
            self.student, matrix_lr=settings.lr, other_lr=settings.lr, keep_adam=lambda name: True
        )
        self._schedule = Schedule.from_sigmas(shifted_sigmas(settings.steps, settings.shift))

    def _draw(self, bank: LatentBank, drawn: Draws, *, clips: int) -> tuple[Batch, range]:
        """Clips of the domain and a window of them, which lies alike in all processes."""
        s = self.settings
        latents = bank.latents.shape[2]
        batch = draw_batch(bank, drawn.own, clips=clips, latents=latents, domains=(s.domain,))
        places = draw_window(drawn.shared, clip=latents, window=s.window, middle_share=s.middle_share)
        return batch.to(self._device), places

    def step(self, step: int, progress: float) -> dict[str, float]:
        """Samples of a few clips, their rewards, and updates on them."""
        s = self.settings
        drawn = draw(s.seed, step)
        clips, places = self._draw(self._bank, drawn, clips=s.clips)
        batch = clips.rows(torch.arange(s.clips, device=self._device).repeat_interleave(s.group))
        path = self._sample(batch, places, drawn.noise)
        reward = self._reward(path.end, batch, places)
        advantage = group_advantages(reward, s.group)
        reports = []
        for _ in range(s.updates):
            picked = sorted(drawn.shared.choice(s.steps - 1, size=s.picked, replace=False).tolist())
            reports.append(self._update(path, picked, batch, places, advantage))
        means = {name: sum(report[name] for report in reports) / len(reports) for name in reports[0]}
        return {"reward": reward.mean().item(), "spread": reward.std().item(), **means}

    def _sample(self, batch: Batch, places: range, generator: torch.Generator) -> NoisyPath:
        noise = torch.randn(batch.latents[:, :, list(places)].shape, generator=generator).to(batch.latents)
        return sample_path(
            self._policy.velocity(batch, places), noise, schedule=self._schedule, strength=self.settings.strength,
            clamp=lambda x: place_given(x, batch.condition, places)[0], generator=generator,
        )  # fmt: skip

    def _update(
        self, path: NoisyPath, picked: list[int], batch: Batch, places: range, advantage_B: Tensor
    ) -> dict[str, float]:
        """One update from these steps' transitions; the gradient is their mean."""
        s = self.settings
        counted = ~place_given(path.end, batch.condition, places)[1]
        old = path.log_probabilities(counted)
        policy, teacher = (network.velocity(batch, places) for network in (self._policy, self._teacher))
        report = {"policy": 0.0, "divergence": 0.0, "ratio_gap": 0.0}
        for step in picked:
            given = (path.states[step], self._schedule.timesteps[step], step)
            process = {"schedule": self._schedule, "step": step, "strength": s.strength}
            made = transition(given[0], policy(*given), **process)
            with torch.no_grad():
                held = transition(given[0], teacher(*given), **process)
            new = made.log_probability(path.states[step + 1], counted)
            loss = clipped_loss(new, old[step], advantage_B, clip=s.clip)
            divergence = made.divergence(held, counted).mean()
            ((loss + s.pull * divergence) / s.picked).backward()
            report["policy"] += loss.item() / s.picked
            report["divergence"] += divergence.item() / s.picked
            report["ratio_gap"] += (new.detach() - old[step]).abs().mean().item() / s.picked
        apply_gradients(self.optimisers, self.student, max_norm=1.0)
        self.average.update(self.student)
        return report

    @torch.no_grad()
    def evaluate(self) -> dict[str, float]:
        """Reward of held-out clips of the domain sampled without added noise, by the averaged weights."""
        random, generator = np.random.default_rng(1), torch.Generator().manual_seed(1)
        batch, places = self._draw(self._held_out, Draws(random, random, generator), clips=_HELD_OUT_CLIPS)
        noise = torch.randn(batch.latents[:, :, list(places)].shape, generator=generator).to(batch.latents)
        with self.average.applied_to(self.student):
            made = sample_window(self._policy, batch, places, schedule=self._schedule, noise=noise)
        return {"reward": self._reward(made, batch, places).mean().item()}

    def state_dict(self) -> dict[str, Any]:
        """The expert and its running average; the teacher is given anew."""
        return {"student": self.student.state_dict(), "average": self.average.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Inverse of state_dict."""
        self.student.load_state_dict(state["student"])
        self.average.load_state_dict(state["average"])
