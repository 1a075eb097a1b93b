"""Stage 4: self-forcing distillation by distribution matching, every variant a field of its settings.

A student streams its own window; a frozen real score and a fake score, trained on what the student makes, say in which
direction the window should move. Which windows: windows.py, long_tail.py, self_correction.py. Where the scores are
guided: guidance.py. Which clips weigh more: reward.py.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from ..networks.cache_spec import CacheSpec
from ..samplers.flow_matching import add_noise
from ..samplers.schedule import Schedule, shift_sigma
from .data import LatentBank, draw_batch
from .ema import ExponentialAverage
from .guidance import RULE_SCALES, Guidance, GuidanceRule, OralRule, guidance_scales
from .latent_reader import EYES, LatentReader, frames_of_latents, train_latent_reader
from .long_tail import LongTail, LongTailSize
from .losses import critic_loss, dmd_gradient, gradient_loss, weighted_mse
from .mouth_region import mouth_region
from .muon import make_optimisers
from .parallel import draw, everyones, joined, rank, update, world
from .reward import Confidence, ReaderConfidence, RewardScale, errors_of, reading_errors, reward_weights
from .rollout import roll_out
from .scores import NetworkScore, RoutedScore, freeze, guided_x0
from .self_correction import SelfCorrection
from .sharded_tensors import state_placed_like
from .sharding import shard
from .student import TrainableStudent, importance
from .windows import SelfForcing, Streamer, Window, WindowSource

_LOWEST, _HIGHEST = 0.001, 0.999  # noise levels that the scores are asked at (Lip Forcing 7.3)


@dataclass(frozen=True)
class DistilSettings:
    """Numbers of the distillation stage; lengths in latents.

    rollout: self_forcing judges the whole of a window from the stream's start, long_tail windows of a stream that goes
    on, self_correction the last of up to corrected_chunks chunks. The student learns on every student_every-th step
    once critic_warmup steps are over, the fake score on every step. guidance_rule and what follows it: see
    guidance.Guidance; audio_guidance None is the rule's own. mouth_edge: cells over which the mouth's mask fades.
    audio_dropout: share of the fake score's clips that it learns without speech. horizon, long_after, tail_latents,
    switch_share, recache: see long_tail.LongTailSize; horizon 0 is the whole clip. reward: whose confidence weighs the
    clips. regression_share, reading_share, blink_share: of the weighted error against the drawn clip, of the error of
    the mouths that a reader finds, and of that of the eyes; 0 leaves them out. gradient_norm: largest norm of an
    update's gradient. ema_from: step from which on the average remembers.
    """

    batch: int = 4
    rollout: Literal["self_forcing", "long_tail", "self_correction"] = "self_forcing"
    window: int = 9
    student_every: int = 5
    critic_warmup: int = 0
    optimiser: Literal["muon", "adamw"] = "muon"
    student_lr: float = 0.002
    critic_lr: float = 0.002
    adam_share: float = 0.1
    gradient_norm: float = 1.0
    shift: float = 5.0
    guidance_rule: GuidanceRule = "sync_window"
    audio_guidance: float | None = None
    sync_low: float = 0.556
    sync_high: float = 0.882
    band: float = 0.556
    oral_rule: OralRule = "prose"
    mouth_edge: float = 1.0
    critic_loss: Literal["flow", "x0"] = "flow"
    audio_dropout: float = 0.1
    reward: Literal["none", "reader", "syncnet"] = "none"
    dmd_share: float = 1.0
    regression_share: float = 0.0
    reading_share: float = 0.0
    blink_share: float = 0.0
    reader_steps: int = 800
    mouth_weight: float = 5.0
    eye_weight: float = 2.0
    corrected_chunks: int = 5
    horizon: int = 0
    long_after: int = 0
    tail_latents: int = 1
    switch_share: float = 0.0
    recache: int = 0
    ema_decay: float = 0.98
    ema_from: int = 0
    seed: int = 0

    def __post_init__(self) -> None:
        if self.student_every < 1 or self.batch < 1:
            raise ValueError(
                f"batch is {self.batch}, student_every {self.student_every}; expected at least 1"
            )
        _ = self.guidance

    @property
    def guidance(self) -> Guidance:
        """The rule with its numbers."""
        scale = RULE_SCALES[self.guidance_rule] if self.audio_guidance is None else self.audio_guidance
        return Guidance(
            self.guidance_rule,
            scale,
            low=self.sync_low,
            high=self.sync_high,
            band=self.band,
            oral=self.oral_rule,
        )


class DistilStage:
    """Trains the student that streams, and the fake score beside it."""

    def __init__(
        self,
        settings: DistilSettings,
        bank: LatentBank,
        held_out: LatentBank,
        *,
        student: TrainableStudent,
        teacher: TrainableStudent,
        experts: Mapping[int, TrainableStudent] | None = None,
        syncnet: Confidence | None = None,
        cache: CacheSpec,
        schedule: Schedule,
        sharded: bool = False,
    ) -> None:
        """student: where it starts, causal. teacher: the real score, bidirectional; the fake score starts as a copy of
        it.

        experts: real scores of some domains. syncnet: judge of the reward of that name. cache: the student's.
        sharded: split the networks over the processes, which must then all run the same forwards: experts, asked only
        for clips of their own, cannot be there.
        """
        if sharded and experts:
            raise ValueError(
                f"{len(experts)} experts are given to sharded networks, whose processes must all ask alike; "
                "leave experts or --shard out"
            )
        self.settings, self._held_out = settings, held_out
        self.cache = cache
        self._device = next(student.parameters()).device
        self.student, self._fake = student, copy.deepcopy(teacher)
        for network in (self.student, self._fake):
            network.train().requires_grad_(True)
            network.network.text_embedding[0].weight.requires_grad_(False)
            network.encoder.requires_grad_(False)
        self.networks = {"student": self.student, "fake score": self._fake, "teacher": freeze(teacher)}
        self._sharded = sharded
        if sharded:
            for network in self.networks.values():
                shard(network)
        frozen = {index: NetworkScore(freeze(expert)) for index, expert in (experts or {}).items()}
        self._real = RoutedScore(NetworkScore(teacher), frozen)
        self._critic = NetworkScore(self._fake)
        self.average = ExponentialAverage(self.student, decay=settings.ema_decay)
        self._student_optimisers = _optimisers(self.student, settings.student_lr, settings)
        self._critic_optimisers = _optimisers(self._fake, settings.critic_lr, settings)
        self.optimisers = self._student_optimisers + self._critic_optimisers
        self._streamer = Streamer(self.student, schedule, self.cache)
        self._windows = make_source(settings, self._streamer, bank)
        weights = importance(*bank.latents.shape[-2:], mouth=settings.mouth_weight, eyes=settings.eye_weight)
        self._importance = weights.to(self._device)
        self._reader, self._eye_reader = self._train_reader(bank), self._train_eye_reader(bank)
        self._reward_scale = RewardScale()
        self._confidence = self._judge(syncnet)

    def go_on_from_fake(self, weights: dict[str, Tensor]) -> None:
        """Begin with the fake score of a distillation before this one."""
        self._fake.load_state_dict(state_placed_like(self._fake.state_dict(), weights))

    def _train_reader(self, bank: LatentBank) -> LatentReader | None:
        s = self.settings
        if s.reading_share == 0 and s.reward != "reader":
            return None
        return train_latent_reader(bank.latents, bank.mouth, steps=s.reader_steps, device=self._device)

    def _train_eye_reader(self, bank: LatentBank) -> LatentReader | None:
        s = self.settings
        if not s.blink_share:
            return None
        if bank.eyes is None:
            raise ValueError(
                "blink_share is set and the bank does not say where eyes close; encode the clips again"
            )
        truth = bank.eyes[..., None]
        return train_latent_reader(bank.latents, truth, steps=s.reader_steps, device=self._device, part=EYES)

    def _judge(self, syncnet: Confidence | None) -> Confidence | None:
        """Whose confidence weighs the clips."""
        if self.settings.reward == "syncnet" and syncnet is None:
            raise ValueError("reward is 'syncnet' and no sync teacher is given; set syncnet: in the recipe")
        if self._reader is not None and self.settings.reward == "reader":
            return ReaderConfidence(self._reader)
        return syncnet if self.settings.reward == "syncnet" else None

    def step(self, step: int, progress: float) -> dict[str, Tensor]:
        """One window; on the student's steps its update, then always the fake score's, on the same window."""
        s = self.settings
        drawn = draw(s.seed, step)
        random, generator = drawn.own, drawn.noise
        learns = step >= s.critic_warmup and (step - s.critic_warmup) % s.student_every == 0
        window = self._windows.draw(step, drawn, learns=learns)
        report: dict[str, Tensor] = {}
        if learns:
            loss, report = self.student_loss(window, random, generator)
            update(self._student_optimisers, loss, self.student, max_norm=s.gradient_norm)
            if step < s.ema_from:
                self.average.restart(self.student)
            else:
                self.average.update(self.student)
        loss = self.fake_loss(replace(window, latents=window.latents.detach()), random, generator)
        update(self._critic_optimisers, loss, self._fake, max_norm=s.gradient_norm)
        return report | {"fake": loss.detach()}

    def student_loss(
        self, window: Window, random: np.random.Generator, generator: torch.Generator
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Distribution matching, weighted by the reward, plus the shares that are asked for."""
        s = self.settings
        scored = _over_time(window.scored, window.latents)
        gradient = self._direction(window, scored, random, generator)
        matching = gradient_loss(window.latents, gradient, scored)
        report = {"dmd": gradient.abs().sum() / scored.expand_as(gradient).sum().clamp_min(1)}
        if self._confidence is not None:
            confidence = self._confidence(window.latents.detach(), window.batch, window.places)
            matching = matching * self._reward_of(confidence)
            report["confidence"] = confidence.mean()
        loss = s.dmd_share * matching.mean()
        if s.regression_share:
            truth = window.batch.latents[:, :, list(window.places)]
            regression = weighted_mse(window.latents, truth, scored * self._importance)
            loss = loss + s.regression_share * regression
            report["regression"] = regression.detach()
        if s.reading_share and self._reader is not None:
            errors = reading_errors(self._reader, window.latents, window.batch, window.places)
            report["reading"] = _mean_square(errors, window)
            loss = loss + s.reading_share * report["reading"]
        if self._eye_reader is not None and window.batch.eyes is not None:
            eyes = frames_of_latents(window.batch.eyes[..., None])
            report["blinks"] = _mean_square(
                errors_of(self._eye_reader, window.latents, eyes, window.places), window
            )
            loss = loss + s.blink_share * report["blinks"]
        return loss, {name: value.detach() for name, value in report.items()}

    def _reward_of(self, confidence_B: Tensor) -> Tensor:
        """Weights of this process's clips among those of all processes."""
        everyone = joined(confidence_B)
        weights = reward_weights(everyone, self._reward_scale.update(everyone))
        return weights.view(world(), -1)[rank()]

    @torch.no_grad()
    def _direction(
        self, window: Window, scored: Tensor, random: np.random.Generator, generator: torch.Generator
    ) -> Tensor:
        """Normalised difference of the scores at one noise level per clip, guided by the rule."""
        s, current = self.settings, window.latents.detach()
        levels, noisy, level_BT = self._noised(window, random, generator)
        mouth = mouth_region(window.batch, window.places, edge=s.mouth_edge)
        scales = guidance_scales(s.guidance, levels, mouth)
        shown = (noisy, level_BT, window.batch, window.places)
        nulls = [scales.real_null, scales.fake_null]
        if self._sharded:  # what one process runs, all must run: who needs no null asks for one and leaves it
            wanted = [any(everyones(bool(null))) for null in nulls]
            nulls = [null or ((0,) if by_some else ()) for null, by_some in zip(nulls, wanted, strict=True)]
        real = guided_x0(self._real, *shown, scale=scales.real, null_of=nulls[0])
        fake = guided_x0(self._critic, *shown, scale=scales.fake, null_of=nulls[1])
        return dmd_gradient(current, real, fake, scored) * scales.share

    def fake_loss(self, window: Window, random: np.random.Generator, generator: torch.Generator) -> Tensor:
        """How far the fake score is from what the student made, some clips without their speech."""
        levels, noisy, level_BT = self._noised(window, random, generator)
        hears = torch.from_numpy(random.random(len(noisy)) >= self.settings.audio_dropout).to(noisy.device)
        predicted = self._critic(noisy, level_BT, window.batch, window.places, hears=hears)
        divisors = levels if self.settings.critic_loss == "flow" else [1.0] * len(levels)
        sigma = noisy.new_tensor(divisors).view(-1, 1, 1, 1, 1)
        return critic_loss(predicted, window.latents, sigma, _over_time(window.noised, noisy))

    def _noised(
        self, window: Window, random: np.random.Generator, generator: torch.Generator
    ) -> tuple[list[float], Tensor, Tensor]:
        """A window at one level per clip, its context clean -> (level per clip, noisy, level per latent (B, T))."""
        x0 = window.latents.detach()
        levels = draw_levels(random, len(x0), shift=self.settings.shift, interval=window.interval)
        level_BT = x0.new_tensor([[level * noisy for noisy in window.noised] for level in levels])
        noise = torch.randn(x0.shape, generator=generator).to(x0)
        return levels, add_noise(x0, noise, level_BT[:, None, :, None, None]), level_BT

    @torch.no_grad()
    def evaluate(self) -> dict[str, float]:
        """Weighted error of rollouts against held-out clips, by the averaged weights; mouths too where a reader is."""
        random, generator = np.random.default_rng(1), torch.Generator().manual_seed(1)
        latents = self._held_out.latents.shape[2]
        batch = draw_batch(self._held_out, random, clips=16, latents=latents).to(self._device)
        with self.average.applied_to(self.student):
            rollout = self._streamer.start(batch, generator)
            rolled = roll_out(rollout, min(4, latents // self.cache.chunk))
        places = range(rolled.shape[2])
        error = weighted_mse(rolled, batch.latents[:, :, : len(places)], self._importance)
        numbers = {"rollout_mse": error.item(), "deviation": rolled.std().item()}
        if self._reader is not None:
            errors = reading_errors(self._reader, rolled, batch, places)
            numbers["reading"] = errors.square().mean().item()
        return numbers

    def state_dict(self) -> dict[str, Any]:
        """The networks that train, the running average, and what lives from step to step in all processes."""
        return {
            "student": self.student.state_dict(), "fake": self._fake.state_dict(),
            "average": self.average.state_dict(), "reward": self._reward_scale.state_dict(),
            "windows": everyones(self._windows.state_dict()),
        }  # fmt: skip

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Inverse of state_dict. Another number of processes begins new streams."""
        self.student.load_state_dict(state["student"])
        self._fake.load_state_dict(state["fake"])
        self.average.load_state_dict(state["average"])
        self._reward_scale.load_state_dict(state["reward"])
        streams = state["windows"]
        self._windows.load_state_dict(streams[rank()] if len(streams) == world() else {})


def make_source(settings: DistilSettings, streamer: Streamer, bank: LatentBank) -> WindowSource:
    """Where the stage's windows come from. Raises ValueError for lengths that do not fit together."""
    s, clip = settings, bank.latents.shape[2]
    if s.rollout == "self_forcing":
        return SelfForcing(streamer, bank, clips=s.batch, window=s.window)
    if s.rollout == "self_correction":
        return SelfCorrection(streamer, bank, clips=s.batch, window=s.window, most=s.corrected_chunks)
    size = LongTailSize(
        window=s.window, horizon=s.horizon or clip // s.window * s.window, long_after=s.long_after, tail=s.tail_latents,
        switch_share=s.switch_share, recache=s.recache,
    )  # fmt: skip
    if s.regression_share and (size.horizon > clip or s.switch_share):
        raise ValueError(
            f"regression_share is {s.regression_share}, but streams of {size.horizon} latents with switch_share "
            f"{s.switch_share} leave the drawn clips of {clip}; set it to 0"
        )
    return LongTail(streamer, bank, size, clips=s.batch, seed=s.seed)


def draw_levels(
    random: np.random.Generator, count: int, *, shift: float, interval: tuple[float, float]
) -> list[float]:
    """Noise levels of the law t = shift u / (1 + (shift - 1) u), u uniform, within an interval.

    u is uniform between the interval's ends before the shift; t is clamped to 0.001..0.999.
    """
    low, high = (t / (shift - (shift - 1) * t) for t in interval)
    drawn = (shift_sigma(float(u), shift) for u in random.uniform(low, high, count))
    return [min(max(t, _LOWEST), _HIGHEST) for t in drawn]


def _over_time(chosen: tuple[bool, ...], like: Tensor) -> Tensor:
    """Zeros and ones per latent that broadcast against (B, C, T, H, W)."""
    return like.new_tensor(chosen).view(1, 1, -1, 1, 1)


def _mean_square(errors_BTFD: Tensor, window: Window) -> Tensor:
    """Over the latents that the student learns from."""
    return errors_BTFD[:, [i for i, counts in enumerate(window.scored) if counts]].square().mean()


def _optimisers(
    network: TrainableStudent, rate: float, settings: DistilSettings
) -> list[torch.optim.Optimizer]:
    if settings.optimiser == "muon":
        return make_optimisers(network, matrix_lr=rate, other_lr=rate * settings.adam_share)
    trained = [parameter for parameter in network.parameters() if parameter.requires_grad]
    return [torch.optim.AdamW(trained, lr=rate, betas=(0.0, 0.999), weight_decay=0.01)]
