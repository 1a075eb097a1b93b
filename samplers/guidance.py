"""Guidance of undistilled students: several velocities of one step become one.

After InfiniteTalk: text and audio are strengthened apart from each other. A distilled student leaves all of this
out; denoise_chunk takes a guided velocity as it takes a plain one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from .flow_matching import supported_dtype

Branch = Literal["cond", "drop_text", "drop_audio", "uncond"]
BranchVelocity = Callable[[Tensor, float, int, Branch], Tensor]


@dataclass(frozen=True)
class Projection:
    """Adaptive projected guidance: keeps saturation down at strong guidance (Sadat et al., 2024).

    momentum: of the running difference, negative pushes away from the steps before; threshold: largest norm of a
    difference; parallel: how much of the part along the prediction stays.
    """

    momentum: float = -0.75
    threshold: float = 55.0
    parallel: float = 0.0


@dataclass(frozen=True)
class Guidance:
    """How strongly text and audio pull; 1 for neither is a plain call of the network.

    With text 1 there are two calls a step, with and without audio. Otherwise three: as conditioned, with the
    negative text, with the negative text and without audio.
    """

    text: float = 1.0
    audio: float = 1.0
    projection: Projection | None = None

    def __post_init__(self) -> None:
        """Raises ValueError for strengths that are no numbers of at least 0."""
        for name in ("text", "audio"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"{name} guidance is {getattr(self, name)}; expected a number of at least 0")

    @property
    def branches(self) -> tuple[Branch, ...]:
        """Network calls of one step."""
        if self.text != 1.0:
            return ("cond", "drop_text", "uncond")
        return ("cond", "drop_audio") if self.audio != 1.0 else ("cond",)


class GuidedVelocity:
    """The velocity that denoise_chunk asks for, made of one call per branch. Make one for every chunk."""

    def __init__(self, velocity: BranchVelocity, guidance: Guidance) -> None:
        """velocity(x, timestep, step, branch) is the network."""
        self._velocity, self._guidance = velocity, guidance
        settings = guidance.projection
        self._running = {n: RunningDifference(settings) for n in ("text", "audio")} if settings else {}

    def __call__(self, x_BCTHW: Tensor, timestep: float, step: int) -> Tensor:
        """Guided velocity (B, C, T, H, W)."""
        guidance = self._guidance
        made = {b: self._velocity(x_BCTHW, timestep, step, b) for b in guidance.branches}
        cond, weakest = made["cond"], made[guidance.branches[-1]]
        differences = _differences(made)
        if not self._running:
            return weakest + sum(getattr(guidance, name) * part for name, part in differences.items())
        return cond + sum(
            (getattr(guidance, name) - 1.0) * self._running[name].project(part, cond)
            for name, part in differences.items()
        )


def _differences(made: dict[Branch, Tensor]) -> dict[str, Tensor]:
    """What text and audio add to the prediction, each where a branch leaves it out."""
    if "drop_text" in made:
        return {"text": made["cond"] - made["drop_text"], "audio": made["drop_text"] - made["uncond"]}
    return {"audio": made["cond"] - made["drop_audio"]} if "drop_audio" in made else {}


class RunningDifference:
    """One guidance difference over the steps of a chunk: momentum, a limit to its norm, projection."""

    def __init__(self, projection: Projection) -> None:
        self._projection = projection
        self._average: Tensor | float = 0.0

    def project(self, difference_BCTHW: Tensor, cond_BCTHW: Tensor) -> Tensor:
        """The difference to add to the conditioned prediction, both (B, C, T, H, W); norms over all axes."""
        settings = self._projection
        self._average = difference_BCTHW + settings.momentum * self._average
        limited = self._average * _limit(self._average, settings.threshold)
        dtype = supported_dtype(torch.float64, cond_BCTHW.device)
        along, wide = limited.to(dtype).flatten(1), cond_BCTHW.to(dtype).flatten(1)
        unit = torch.nn.functional.normalize(wide, dim=-1)
        parallel = (along * unit).sum(-1, keepdim=True) * unit
        kept = along - parallel + settings.parallel * parallel
        return kept.unflatten(1, difference_BCTHW.shape[1:]).to(difference_BCTHW.dtype)


def _limit(difference_BCTHW: Tensor, threshold: float) -> Tensor | float:
    """Factor that brings the norm down to the threshold where it is above."""
    if threshold <= 0:
        return 1.0
    norm = difference_BCTHW.flatten(1).norm(dim=-1).clamp_min(1e-12)
    return (threshold / norm).clamp_max(1.0).view(-1, *[1] * (difference_BCTHW.ndim - 1))
