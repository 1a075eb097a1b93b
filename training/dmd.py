"""Stage 4: distribution matching on the student's own rollouts (DMD2, Self-Forcing), with a regression term.

The score of a chunk is taken given the student's own clean first chunk and predecessor, by two copies of the
flow-matching network: a frozen one for the data, a trained one for the student's output.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ..networks.cache_spec import CacheSpec
from ..networks.masks import chunk_causal_mask
from ..samplers.flow_matching import add_noise, velocity_target, x0_from_velocity
from ..samplers.schedule import TIMESTEP_SCALE, Schedule, shift_sigma
from .data import Batch, LatentBank, draw_batch
from .ema import ExponentialAverage
from .finetune import Sequence
from .latent_reader import LatentReader, mouths_of_latents, train_latent_reader
from .losses import dmd_gradient, gradient_loss, weighted_mse
from .muon import make_optimisers
from .rollout import Rollout, roll_out
from .student import TrainableStudent, importance


@dataclass(frozen=True)
class DistilSettings:
    """Numbers of the distillation stage.

    reading_share: of the error of the mouth that a reader finds in the student's latents; 0 trains no reader.
    """

    batch: int = 4
    last_chunk: int = 4
    student_lr: float = 0.002
    fake_lr: float = 0.002
    adam_share: float = 0.1
    audio_guidance: float = 1.5
    dmd_share: float = 0.5
    regression_share: float = 1.0
    fake_updates: int = 1
    shift: float = 5.0
    reading_share: float = 0.0
    reader_steps: int = 800
    mouth_weight: float = 5.0
    eye_weight: float = 2.0
    ema_decay: float = 0.98
    seed: int = 0


class DistilStage:
    """Trains the student that streams, from the flow-matching network."""

    def __init__(
        self,
        settings: DistilSettings,
        bank: LatentBank,
        held_out: LatentBank,
        *,
        teacher: TrainableStudent,
        cache: CacheSpec,
        schedule: Schedule,
    ) -> None:
        self.settings, self._bank, self._held_out = settings, bank, held_out
        self._cache, self._schedule = cache, schedule
        self._device = next(teacher.parameters()).device
        self._teacher = teacher.eval().requires_grad_(False)
        self.student = copy.deepcopy(teacher)
        self._fake = copy.deepcopy(teacher)
        for network in (self.student, self._fake):
            network.requires_grad_(True)
            network.network.text_embedding[0].weight.requires_grad_(False)
            network.encoder.requires_grad_(False)
        self.average = ExponentialAverage(self.student, decay=settings.ema_decay)
        own, other = settings.student_lr, settings.fake_lr
        self._student_optimisers = make_optimisers(
            self.student, matrix_lr=own, other_lr=own * settings.adam_share
        )
        self._fake_optimisers = make_optimisers(
            self._fake, matrix_lr=other, other_lr=other * settings.adam_share
        )
        self.optimisers = self._student_optimisers + self._fake_optimisers
        height, width = bank.latents.shape[-2:]
        weights = importance(height, width, mouth=settings.mouth_weight, eyes=settings.eye_weight)
        self._importance = weights.to(self._device)
        self._reader: LatentReader | None = None
        if settings.reading_share > 0:
            steps = settings.reader_steps
            self._reader = train_latent_reader(bank.latents, bank.mouth, steps=steps, device=self._device)
        tokens = (height // 2) * (width // 2)
        self._mask = chunk_causal_mask(cache, 3 * cache.chunk, tokens, device=self._device)

    def _generate(
        self, batch: Batch, *, target: int, exit_step: int, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """Roll out up to the target chunk -> (context latents, target chunk with a gradient)."""
        with torch.autocast(self._device.type, torch.bfloat16):
            speech = self.student.features(batch.mel)
        rollout = Rollout(
            self.student, schedule=self._schedule, cache=self._cache, condition=batch.condition,
            speech_BTV=speech, generator=generator,
        )  # fmt: skip
        before = roll_out(rollout, target) if target else batch.latents[:, :, :0]
        return before, rollout.next_chunk(exit_step=exit_step)

    def _window(self, before: Tensor, current: Tensor, target: int) -> tuple[Tensor, list[int]]:
        """First chunk, predecessor, current chunk -> (B, C, T, H, W) and the latents' indices in the clip."""
        sequence = Sequence(tuple(sorted({0, max(0, target - 1), target})), self._cache.chunk)
        clip = torch.cat([before, current], dim=2)
        indices = sequence.latents()
        return clip[:, :, indices], indices

    def _score(
        self, network: TrainableStudent, window: Tensor, noisy: Tensor, sigma: Tensor, batch: Batch, indices: list[int],
        *, hears: bool = True,
    ) -> Tensor:  # fmt: skip
        """Velocity of the last chunk at noise level sigma (B,), given the clean chunks before it."""
        chunk = self._cache.chunk
        x = batch.condition.clamp(torch.cat([window[:, :, :-chunk], noisy], dim=2))
        level = x.new_zeros(x.shape[0], x.shape[2])
        level[:, -chunk:] = sigma[:, None]
        length = x.shape[2] * self._mask.shape[0] // (3 * chunk)
        with torch.autocast(self._device.type, torch.bfloat16):
            speech = network.features(batch.mel)[:, indices]
            output = network(
                torch.cat([x, batch.condition.channels(indices)], dim=1),
                timestep_BT=TIMESTEP_SCALE * level,
                speech_BTV=speech if hears else torch.zeros_like(speech),
                attention_mask_LL=self._mask[:length, :length],
            )
        return output[:, :, -chunk:].float()

    def _noised(
        self, current: Tensor, random: np.random.Generator, generator: torch.Generator
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Noise a chunk at a random level -> (noisy, noise, sigma (B,))."""
        drawn = [shift_sigma(u, self.settings.shift) for u in random.uniform(0.02, 0.98, len(current))]
        sigma = current.new_tensor(drawn)
        noise = torch.randn(current.shape, generator=generator).to(current)
        return add_noise(current, noise, sigma.view(-1, 1, 1, 1, 1)), noise, sigma

    def _chunk_weight(self, target: int, batch: Batch) -> Tensor:
        weight = self._importance.expand(1, 1, self._cache.chunk, -1, -1).clone()
        if target == 0 and batch.condition.clamped:
            weight[:, :, 0] = 0.0
        return weight.to(batch.latents)

    def _student_loss(
        self, batch: Batch, before: Tensor, current: Tensor, target: int, random: np.random.Generator,
        generator: torch.Generator,
    ) -> tuple[Tensor, dict[str, float]]:  # fmt: skip
        s = self.settings
        first = target * self._cache.chunk
        truth = batch.latents[:, :, first : first + self._cache.chunk]
        weight = self._chunk_weight(target, batch)
        regression = weighted_mse(current, truth, weight)
        with torch.no_grad():
            window, indices = self._window(before, current.detach(), target)
            noisy, _, sigma = self._noised(current.detach(), random, generator)
            level = sigma.view(-1, 1, 1, 1, 1)
            heard = self._score(self._teacher, window, noisy, sigma, batch, indices)
            deaf = self._score(self._teacher, window, noisy, sigma, batch, indices, hears=False)
            real = x0_from_velocity(noisy, deaf + s.audio_guidance * (heard - deaf), level)
            fake = x0_from_velocity(
                noisy, self._score(self._fake, window, noisy, sigma, batch, indices), level
            )
            gradient = dmd_gradient(current.detach(), real, fake) * weight
        reading = self._reading_error(batch, before, current, first)
        matching = gradient_loss(current, gradient)
        loss = s.dmd_share * matching + s.regression_share * regression + s.reading_share * reading
        report = {"regression": regression.item(), "dmd": gradient.abs().mean().item()}
        return loss, report | ({"reading": reading.item()} if self._reader is not None else {})

    def _reading_error(self, batch: Batch, before: Tensor, current: Tensor, first: int) -> Tensor:
        """Squared error of the mouths that a chunk shows, over its frames."""
        if self._reader is None:
            return current.new_zeros(())
        context = before[:, :, -1:] if first else current[:, :, :1]
        read = self._reader(torch.cat([context, current[:, :, :-1]], dim=2), current)
        truth = mouths_of_latents(batch.mouth)[:, first : first + self._cache.chunk]
        return F.mse_loss(read, truth)

    def _fake_loss(
        self, batch: Batch, before: Tensor, current: Tensor, target: int, random: np.random.Generator,
        generator: torch.Generator,
    ) -> Tensor:  # fmt: skip
        window, indices = self._window(before, current, target)
        noisy, noise, sigma = self._noised(current, random, generator)
        output = self._score(self._fake, window, noisy, sigma, batch, indices)
        return weighted_mse(output, velocity_target(current, noise), self._chunk_weight(target, batch))

    def step(self, step: int, progress: float) -> dict[str, float]:
        """One update of the student on one chunk of its own rollout, then of the fake score."""
        s = self.settings
        random = np.random.default_rng([s.seed, step])
        generator = torch.Generator().manual_seed(int(random.integers(2**62)))
        whole = self._bank.latents.shape[2] // self._cache.chunk * self._cache.chunk
        batch = draw_batch(self._bank, random, clips=s.batch, latents=whole, warp=True).to(self._device)
        target = int(random.integers(s.last_chunk + 1))
        exit_step = int(random.integers(self._schedule.steps))
        before, current = self._generate(batch, target=target, exit_step=exit_step, generator=generator)
        loss, report = self._student_loss(batch, before, current, target, random, generator)
        _update(self._student_optimisers, loss, self.student)
        self.average.update(self.student)
        for _ in range(s.fake_updates):
            fake = self._fake_loss(batch, before, current.detach(), target, random, generator)
            _update(self._fake_optimisers, fake, self._fake)
            report["fake"] = fake.item()
        return report

    @torch.no_grad()
    def evaluate(self) -> dict[str, float]:
        """Weighted error of four-chunk rollouts against held-out clips, by the averaged weights."""
        random, generator = np.random.default_rng(1), torch.Generator().manual_seed(1)
        whole = self._held_out.latents.shape[2] // self._cache.chunk * self._cache.chunk
        batch = draw_batch(self._held_out, random, clips=16, latents=whole).to(self._device)
        with self.average.applied_to(self.student):
            before, last = self._generate(
                batch, target=3, exit_step=self._schedule.steps - 1, generator=generator
            )
        rolled = torch.cat([before, last], dim=2)
        error = weighted_mse(rolled, batch.latents[:, :, : rolled.shape[2]], self._importance)
        return {"rollout_mse": error.item(), "deviation": rolled.std().item()}

    def state_dict(self) -> dict[str, Any]:
        """All three networks and the running average."""
        return {
            "student": self.student.state_dict(), "fake": self._fake.state_dict(),
            "teacher": self._teacher.state_dict(), "average": self.average.state_dict(),
        }  # fmt: skip

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Inverse of state_dict."""
        self.student.load_state_dict(state["student"])
        self._fake.load_state_dict(state["fake"])
        self._teacher.load_state_dict(state["teacher"])
        self.average.load_state_dict(state["average"])


def _update(optimisers: list[torch.optim.Optimizer], loss: Tensor, network: torch.nn.Module) -> None:
    loss.backward()
    torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
    for optimiser in optimisers:
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
