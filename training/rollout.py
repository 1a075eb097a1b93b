"""Self-forcing rollout: the student continues its own output, chunk by chunk, as it does when streaming."""

from __future__ import annotations

import torch
from torch import Tensor

from ..networks.kv_cache import CLEAN_PASS, CacheSpec, GrowingKVCache
from ..samplers.few_step import denoise_chunk
from ..samplers.flow_matching import add_noise
from ..samplers.schedule import Schedule
from .conditions import Condition
from .precision import half_precision
from .student import TrainableStudent


class Rollout:
    """One batch of streams under way: cache, condition, speech. Chunks are made one after another.

    With a ``clean`` cache a chunk becomes past by a pass over the finished latents. With a ``per_step`` cache it
    became past as it was denoised (EchoTorrent, algorithm 2): every chunk runs all its steps, and a sink of its own is
    written by passes over the reference and, after the first chunk, over what was made.
    generator: where noise comes from; may be replaced between chunks.
    """

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
        self._condition, self._speech, self.generator = condition, speech_BTV, generator
        reference = condition.reference_BC1HW
        batch, _, _, height, width = reference.shape
        network = student.network
        self.cache = GrowingKVCache(
            cache, layers=len(network.blocks), dim=network.dim, heads=network.num_heads,
            grid=(height // 2, width // 2), batch=batch, dtype=reference.dtype,
            device=reference.device,
        )  # fmt: skip

    def next_chunk(self, *, exit_step: int | None = None) -> Tensor:
        """Make one chunk (B, C, T, H, W); with an exit step only that step's network call records a gradient, and its
        clean estimate is the result.

        What the passes after it write for later chunks keeps no gradient.
        """
        first, latents = self.cache.next_latent, self._spec.chunk
        if first == 0:
            self._write_sink(self._condition.reference_BC1HW)
        self.cache.begin_chunk(latents)
        clamp = self._condition.clamp if first == 0 and self._condition.clamped else None
        final: list[Tensor] = []

        def velocity(x: Tensor, timestep: float, step: int) -> Tensor:
            self.cache.begin_pass(step)
            return self._network(x, timestep, first=first)

        result = denoise_chunk(
            velocity, self._noise(latents), schedule=self._schedule, renoise=lambda step: self._noise(latents),
            clamp=clamp, x0_dtype=torch.float32, exit_step=exit_step, finish_steps=self._spec.mode == "per_step",
            on_step=lambda step, x0: final.append(x0),
        )  # fmt: skip
        if self._spec.mode == "clean":
            self._clean_pass(result, first=first)
        self.cache.end_chunk()
        if first == 0 and self._spec.sink_source == "reference_then_first_generated":
            self._write_sink(final[-1])
        return result

    @torch.no_grad()
    def recache(self, latents_BCTHW: Tensor, speech_BTV: Tensor) -> None:
        """Hear another speech from here on, and write these last latents of the stream into the cache again under it.

        latents_BCTHW: whole chunks, none leaves the cache as it is; a ``per_step`` cache gets them noised to each of
        its levels. speech_BTV: of the whole clip. After LongLive's re-cache, which EchoTorrent's algorithm 1 names.
        """
        self._speech = speech_BTV
        if not latents_BCTHW.shape[2]:
            return
        self.cache.rewind(latents_BCTHW.shape[2])
        for chunk in latents_BCTHW.split(self._spec.chunk, dim=2):
            first = self.cache.next_latent
            self.cache.begin_chunk(chunk.shape[2])
            if self._spec.mode == "clean":
                self._clean_pass(chunk, first=first)
            else:
                self._noisy_passes(chunk, first=first)
            self.cache.end_chunk()

    def _clean_pass(self, x0: Tensor, *, first: int) -> None:
        with torch.no_grad():
            self.cache.begin_pass(CLEAN_PASS)
            self._network(x0.detach(), 0.0, first=first)

    def _noisy_passes(self, x0: Tensor, *, first: int) -> None:
        steps = zip(self._schedule.sigmas, self._schedule.timesteps, strict=False)
        for step, (sigma, timestep) in enumerate(steps):
            x = add_noise(x0, self._noise(x0.shape[2]), sigma)
            if first == 0 and self._condition.clamped:
                x = self._condition.clamp(x)
            self.cache.begin_pass(step)
            self._network(x, timestep, first=first)

    def _write_sink(self, x0_BCTHW: Tensor) -> None:
        """Put the first of these latents into a sink that is not made of the stream's own first latents."""
        if self._spec.sink_source == "first_latents" or not self._spec.sink:
            return
        count = min(self._spec.sink, x0_BCTHW.shape[2])
        with torch.no_grad():
            self.cache.begin_sink(count)
            self._network(x0_BCTHW[:, :, :count].detach(), 0.0, first=0)
            self.cache.end_sink()

    def _noise(self, latents: int) -> Tensor:
        b, c, _, h, w = self._condition.reference_BC1HW.shape
        drawn = torch.randn((b, c, latents, h, w), generator=self.generator)
        return drawn.to(self._condition.reference_BC1HW)

    def _network(self, x: Tensor, timestep: float, *, first: int) -> Tensor:
        latents = x.shape[2]
        known = self._condition.channels(range(first, first + latents))
        with half_precision(x.device):
            flow = self._student(
                torch.cat([x, known], dim=1),
                timestep_BT=x.new_full((x.shape[0], 1), timestep),
                speech_BTV=self._speech[:, first : first + latents],
                cache=self.cache,
            )
        return flow.to(x.dtype)


@torch.no_grad()
def roll_out(rollout: Rollout, chunks: int) -> Tensor:
    """Several chunks in a row without gradients -> (B, C, T, H, W)."""
    return torch.cat([rollout.next_chunk() for _ in range(chunks)], dim=2)
