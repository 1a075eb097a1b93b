"""Self-forcing rollout: the student continues its own output, chunk by chunk, as it does when streaming."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ..networks.kv_cache import CLEAN_PASS, CacheSpec, GrowingKVCache
from ..samplers.few_step import denoise_chunk
from ..samplers.schedule import Schedule
from .conditions import Condition
from .student import TrainableStudent


class Rollout:
    """One batch of streams under way: cache, condition, speech. Chunks are made one after another."""

    def __init__(
        self,
        student: TrainableStudent,
        *,
        schedule: Schedule,
        cache: CacheSpec,
        condition: Condition,
        speech_BTV: Tensor,
        generator: torch.Generator,
    ) -> None:
        """speech_BTV: packed speech features of the whole clip; every stream starts at latent 0."""
        self._student, self._schedule, self._spec = student, schedule, cache
        self._condition, self._speech, self._generator = condition, speech_BTV, generator
        batch, _, _, height, width = condition.reference_BC1HW.shape
        network = student.network
        self._cache = GrowingKVCache(
            cache, layers=len(network.blocks), dim=network.dim, heads=network.num_heads,
            grid=(height // 2, width // 2), batch=batch,
        )  # fmt: skip

    def next_chunk(self, *, exit_step: int | None = None) -> Tensor:
        """Make one chunk (B, C, T, H, W); with an exit step only that step's network call records a gradient.

        The clean pass that follows keeps no gradient.
        """
        first, latents = self._cache.next_latent, self._spec.chunk
        self._cache.begin_chunk(latents)
        noise = self._noise(latents)
        clamp: Callable[[Tensor], Tensor] | None = None
        if first == 0 and self._condition.clamped:
            clamp = self._condition.clamp

        def velocity(x: Tensor, timestep: float, step: int) -> Tensor:
            self._cache.begin_pass(step)
            return self._network(x, timestep, first=first)

        result = denoise_chunk(
            velocity, noise, schedule=self._schedule, renoise=lambda step: self._noise(latents), clamp=clamp,
            x0_dtype=torch.float32, exit_step=exit_step,
        )  # fmt: skip
        with torch.no_grad():
            self._cache.begin_pass(CLEAN_PASS)
            self._network(result.detach(), 0.0, first=first)
        self._cache.end_chunk()
        return result

    def _noise(self, latents: int) -> Tensor:
        b, c, _, h, w = self._condition.reference_BC1HW.shape
        drawn = torch.randn((b, c, latents, h, w), generator=self._generator)
        return drawn.to(self._condition.reference_BC1HW)

    def _network(self, x: Tensor, timestep: float, *, first: int) -> Tensor:
        latents = x.shape[2]
        known = self._condition.channels(range(first, first + latents))
        with torch.autocast(x.device.type, torch.bfloat16):
            flow = self._student(
                torch.cat([x, known], dim=1),
                timestep_BT=x.new_full((x.shape[0], 1), timestep),
                speech_BTV=self._speech[:, first : first + latents],
                cache=self._cache,
            )
        return flow.float()


@torch.no_grad()
def roll_out(rollout: Rollout, chunks: int) -> Tensor:
    """Several chunks in a row without gradients -> (B, C, T, H, W)."""
    return torch.cat([rollout.next_chunk() for _ in range(chunks)], dim=2)
