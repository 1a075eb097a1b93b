"""Retrospective self-correction (SoulX-FlashTalk): the student mends a chunk that follows its own history."""

from __future__ import annotations

from typing import Any

import torch

from .data import LatentBank, draw_batch
from .parallel import Draws
from .rollout import roll_out
from .windows import Streamer, Window, made_latents, roll_chunks


class SelfCorrection:
    """Rolls out 1 to ``most`` chunks, all but the last as when streaming, and judges the last one.

    One random step of the last chunk carries the gradient. The scores see the student's own latents before it, clean,
    and noise it at a level inside the interval of that step.
    """

    def __init__(self, streamer: Streamer, bank: LatentBank, *, clips: int, window: int, most: int) -> None:
        """window: latents that the scores see, the last chunk among them. Raises ValueError for what does not fit."""
        self._streamer, self._bank, self._clips, self._most = streamer, bank, clips, most
        self._window = streamer.chunks_of(window, "window") * streamer.cache.chunk
        latents = bank.latents.shape[2]
        if not 1 <= most <= latents // streamer.cache.chunk:
            raise ValueError(
                f"corrected_chunks is {most}; clips of {latents} latents have 1 to {latents // streamer.cache.chunk}"
            )

    def draw(self, step: int, drawn: Draws, *, learns: bool) -> Window:
        """New clips, a random number of chunks."""
        latents = self._bank.latents.shape[2]
        batch = draw_batch(self._bank, drawn.own, clips=self._clips, latents=latents, warp=True)
        batch = batch.to(next(self._streamer.student.parameters()).device)
        rollout = self._streamer.start(batch, drawn.noise)
        before = int(drawn.shared.integers(self._most))
        exit_step = self._streamer.exit_step(drawn)
        parts = [roll_out(rollout, before)] if before else []
        made = torch.cat([*parts, roll_chunks(rollout, [learns], exit_step=exit_step)], dim=2)
        end, chunk = made.shape[2], self._streamer.cache.chunk
        places = range(max(0, end - self._window), end)
        own = zip(places, made_latents(batch, places), strict=True)
        last = tuple(by_student and place >= end - chunk for place, by_student in own)
        sigmas = self._streamer.schedule.sigmas
        interval = (sigmas[exit_step + 1], sigmas[exit_step])
        return Window(batch, made[:, :, places.start :], places, last, last, interval)

    def state_dict(self) -> dict[str, Any]:
        """Nothing."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Nothing."""
