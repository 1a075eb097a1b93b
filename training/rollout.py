"""Self-forcing rollout: the student continues its own output, chunk by chunk, as it does when streaming."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ..networks.kv_cache import CLEAN_PASS, CacheSpec, GrowingKVCache
from ..samplers.few_step import denoise_chunk
from ..samplers.schedule import Schedule
from .student import TrainableStudent, clamp_first, network_input


class Rollout:
    """One batch of streams under way: cache, reference, audio tokens. Chunks are made one after another."""

    def __init__(
        self,
        student: TrainableStudent,
        *,
        schedule: Schedule,
        cache: CacheSpec,
        reference_BC1HW: Tensor,
        tokens_BTE: Tensor,
        generator: torch.Generator,
    ) -> None:
        """tokens_BTE: audio tokens of the whole clip; every stream starts at latent 0."""
        self._student, self._schedule, self._spec = student, schedule, cache
        self._reference, self._tokens, self._generator = reference_BC1HW, tokens_BTE, generator
        batch, _, _, height, width = reference_BC1HW.shape
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
        if first == 0:
            clamp = self._clamp

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

    def _clamp(self, x: Tensor) -> Tensor:
        return clamp_first(x, self._reference)

    def _noise(self, latents: int) -> Tensor:
        b, c, _, h, w = self._reference.shape
        return torch.randn((b, c, latents, h, w), generator=self._generator).to(self._reference)

    def _network(self, x: Tensor, timestep: float, *, first: int) -> Tensor:
        latents = x.shape[2]
        mask = torch.tensor([0.0 if first + i == 0 else 1.0 for i in range(latents)], device=x.device)
        with torch.autocast(x.device.type, torch.bfloat16):
            flow = self._student.network(
                network_input(x, self._reference, mask),
                timestep_BT=x.new_full((x.shape[0], 1), timestep),
                text_BMD=self._student.null_text(1),
                audio_tokens_BTE=self._tokens[:, first : first + latents],
                cache=self._cache,
            )
        return flow.float()


@torch.no_grad()
def roll_out(rollout: Rollout, chunks: int) -> Tensor:
    """Several chunks in a row without gradients -> (B, C, T, H, W)."""
    return torch.cat([rollout.next_chunk() for _ in range(chunks)], dim=2)
