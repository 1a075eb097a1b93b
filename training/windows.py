"""What the student makes for one update of distillation: a window of its own stream, and what of it is judged."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from ..networks.cache_spec import CacheSpec
from ..samplers.schedule import Schedule
from .data import Batch, LatentBank, draw_batch
from .parallel import Draws
from .precision import half_precision
from .rollout import Rollout
from .student import TrainableStudent

WHOLE_INTERVAL = (0.0, 1.0)


@dataclass(frozen=True)
class Window:
    """Latents of the student's stream as the scores see them.

    latents: (B, C, T, H, W), with a gradient where they were made with one. places: their numbers in the stream.
    scored, noised: whether the student learns from a latent, and whether the scores see it noisy or as clean context.
    interval: of noise levels that the scores are asked at.
    """

    batch: Batch
    latents: Tensor
    places: range
    scored: tuple[bool, ...]
    noised: tuple[bool, ...]
    interval: tuple[float, float] = WHOLE_INTERVAL


class WindowSource(Protocol):
    """Where windows come from. Randomness is that of the step."""

    def draw(self, step: int, drawn: Draws, *, learns: bool) -> Window:
        """The next window; learns: whether the student's exit calls record gradients."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """What lives from step to step."""
        ...

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Inverse of state_dict."""
        ...


@dataclass(frozen=True)
class Streamer:
    """A student and how it streams."""

    student: TrainableStudent
    schedule: Schedule
    cache: CacheSpec

    def start(self, batch: Batch, generator: torch.Generator) -> Rollout:
        """Streams of these clips, before their first chunk."""
        return Rollout(
            self.student, schedule=self.schedule, cache=self.cache, condition=batch.condition,
            speech_BTV=self.hear(batch), generator=generator,
        )  # fmt: skip

    def hear(self, batch: Batch) -> Tensor:
        """Packed speech features of the clips."""
        with torch.no_grad(), half_precision(batch.mel.device):
            return self.student.features(batch.mel)

    def exit_step(self, drawn: Draws) -> int:
        """One exit for all chunks, all clips and all processes (Self-Forcing, algorithm 1)."""
        return int(drawn.shared.integers(self.schedule.steps))

    def chunks_of(self, latents: int, name: str) -> int:
        """Whole chunks in so many latents. Raises ValueError where they are not whole."""
        if latents < 1 or latents % self.cache.chunk:
            raise ValueError(f"{name} is {latents} latents; expected whole chunks of {self.cache.chunk}")
        return latents // self.cache.chunk


def roll_chunks(rollout: Rollout, learns: Iterable[bool], *, exit_step: int | None) -> Tensor:
    """One chunk for each entry, those that are True with a gradient through their exit call -> (B, C, T, H, W)."""
    chunks = []
    for learn in learns:
        with torch.set_grad_enabled(learn and torch.is_grad_enabled()):
            chunks.append(rollout.next_chunk(exit_step=exit_step))
    return torch.cat(chunks, dim=2)


def made_latents(batch: Batch, places: range) -> tuple[bool, ...]:
    """Per latent whether the student made it: all but a given one."""
    return tuple(not (batch.condition.clamped and place == 0) for place in places)


class SelfForcing:
    """Rolls streams out from their start and judges all that was made (Self-Forcing)."""

    def __init__(self, streamer: Streamer, bank: LatentBank, *, clips: int, window: int) -> None:
        """window: latents. Raises ValueError where they are not whole chunks or longer than the clips."""
        self._streamer, self._bank, self._clips = streamer, bank, clips
        self._chunks = streamer.chunks_of(window, "window")
        self._places = range(window)
        if window > bank.latents.shape[2]:
            raise ValueError(f"window is {window} latents; the clips have {bank.latents.shape[2]}")

    def draw(self, step: int, drawn: Draws, *, learns: bool) -> Window:
        """New clips, from latent 0."""
        latents = self._bank.latents.shape[2]
        batch = draw_batch(self._bank, drawn.own, clips=self._clips, latents=latents, warp=True)
        batch = batch.to(next(self._streamer.student.parameters()).device)
        rollout = self._streamer.start(batch, drawn.noise)
        exit_step = self._streamer.exit_step(drawn)
        made = roll_chunks(rollout, [learns] * self._chunks, exit_step=exit_step)
        judged = made_latents(batch, self._places)
        return Window(batch, made, self._places, judged, judged)

    def state_dict(self) -> dict[str, Any]:
        """Nothing."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Nothing."""
