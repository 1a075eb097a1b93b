"""Sampling a flow with noise in every step, so that a policy gradient has probabilities (Flow-GRPO, section 4.2)."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ..samplers.few_step import denoise_chunk
from ..samplers.flow_matching import x0_from_velocity
from ..samplers.schedule import Schedule

Velocity = Callable[[Tensor, float, int], Tensor]


def noise_scale(schedule: Schedule, step: int, strength: float) -> float:
    """sigma_t = strength sqrt(t / (1 - t)); at t = 1, where that is infinite, 1 - t is taken from the next level."""
    level = schedule.sigmas[step]
    return strength * math.sqrt(level / (1 - (level if level < 1 else schedule.sigmas[1])))


@dataclass(frozen=True)
class Transition:
    """Normal distribution of the next sample, given this one: mean (B, C, T, H, W), one deviation for all."""

    mean: Tensor
    deviation: float

    def log_probability(self, sample: Tensor, counted_T: Tensor) -> Tensor:
        """Log density of a sample per clip (B,), its mean over the numbers of the latents that count."""
        squared = ((sample - self.mean) / self.deviation).square()
        density = -0.5 * squared - math.log(self.deviation) - 0.5 * math.log(2 * math.pi)
        return _mean_of(density, counted_T)

    def divergence(self, other: Transition, counted_T: Tensor) -> Tensor:
        """Kullback-Leibler divergence per clip (B,) to one of equal deviation, its mean likewise."""
        return _mean_of((self.mean - other.mean).square() / (2 * self.deviation**2), counted_T)


def _mean_of(values_BCTHW: Tensor, counted_T: Tensor) -> Tensor:
    return values_BCTHW[:, :, counted_T].flatten(1).mean(dim=1)


def transition(x: Tensor, velocity: Tensor, *, schedule: Schedule, step: int, strength: float) -> Transition:
    """One step of the stochastic process with the same marginals as the flow: dt = t' - t < 0,

    mean = x + (v + sigma_t^2 / (2 t) (x + (1 - t) v)) dt, deviation = sigma_t sqrt(-dt). With strength 0 an Euler step.
    """
    level, following = schedule.sigmas[step : step + 2]
    scale = noise_scale(schedule, step, strength)
    drift = velocity + scale**2 / (2 * level) * (x + (1 - level) * velocity)
    return Transition(x + drift * (following - level), scale * math.sqrt(level - following))


@dataclass(frozen=True)
class NoisyPath:
    """One sampled path: states before each step, the distribution that each state but the first was drawn from, and
    the clean end. The last step, to level 0, draws nothing.
    """

    states: tuple[Tensor, ...]
    transitions: tuple[Transition, ...]
    end: Tensor

    def log_probabilities(self, counted_T: Tensor) -> list[Tensor]:
        """Of each drawn state, per clip (B,)."""
        drawn = zip(self.transitions, self.states[1:], strict=True)
        return [made.log_probability(state, counted_T) for made, state in drawn]


@torch.no_grad()
def sample_path(
    velocity: Velocity,
    noise: Tensor,
    *,
    schedule: Schedule,
    strength: float,
    clamp: Callable[[Tensor], Tensor],
    generator: torch.Generator,
) -> NoisyPath:
    """From noise to clean latents by the stochastic process; velocity and clamp as denoise_chunk takes them.

    The next sample is handed to denoise_chunk as the noise that, mixed with x0, gives it.
    """
    states: list[Tensor] = []
    transitions: list[Transition] = []
    velocities: list[Tensor] = []

    def watched(x: Tensor, timestep: float, step: int) -> Tensor:
        states.append(x)
        velocities.append(velocity(x, timestep, step))
        return velocities[-1]

    def renoise(step: int) -> Tensor:
        x, v = states[-1], velocities[-1]
        transitions.append(transition(x, v, schedule=schedule, step=step, strength=strength))
        fresh = torch.randn(x.shape, generator=generator).to(x)
        following = transitions[-1].mean + transitions[-1].deviation * fresh
        level = schedule.sigmas[step + 1]
        return (following - (1 - level) * x0_from_velocity(x, v, schedule.sigmas[step])) / level

    end = denoise_chunk(
        watched, noise, schedule=schedule, renoise=renoise, clamp=clamp, x0_dtype=torch.float32
    )
    return NoisyPath(tuple(states), tuple(transitions), end)
