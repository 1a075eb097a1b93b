"""One running stream: the voice goes in, latents come out chunk by chunk, and nothing grows with the length."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from ..audio.sources import LiveSource
from ..networks.kv_cache import CLEAN_PASS, KVCache
from ..samplers.few_step import denoise_chunk
from ..samplers.noise import NoiseSource
from .chunks import Chunk, ChunkPlan
from .network import ChunkNetwork
from .reference import Conditioning
from .running import LATENT_CHANNELS, Latents, RunningStream, check_finite
from .spec import StreamSpec
from .speech import SpeechTokens


@dataclass
class _Context:
    """A chunk that is still to be made part of the past, with what lay beside it in the network's input."""

    x0_BCTHW: Tensor
    known_BCTHW: Tensor
    audio_tokens_BTE: Tensor


class StreamSession(RunningStream):
    """Runs a stream with a KV cache.

    A chunk is handed out before its clean-context pass, which runs when the next chunk is asked for; the last
    chunk needs none. Everything the stream remembers is in state_dict().
    """

    def __init__(
        self,
        spec: StreamSpec,
        network: ChunkNetwork,
        *,
        cache: KVCache,
        speech: SpeechTokens,
        reference: Conditioning,
        noise: NoiseSource,
        source: LiveSource | None = None,
        on_step: Callable[[int, Tensor], None] | None = None,
    ) -> None:
        """spec: without segments. cache: empty, made for this network and spec.grid.

        source: of a voice that arrives live, else None.
        on_step(step, x0): after every network call; what it raises stops the stream. Raises ValueError where the
        parts do not fit together.
        """
        super().__init__(source)
        _check(spec, network, cache, reference)
        self.spec, self._network, self._cache = spec, network, cache
        self._speech, self._reference, self._noise = speech, reference, noise
        self._on_step = on_step
        self._context: _Context | None = None

    @property
    def plan(self) -> ChunkPlan:
        """The chunks to come; of a live voice, its length is known once finish() was called."""
        if self._source is None or self._source.length is None:
            return self.spec.clip_plan
        return replace(self.spec.clip_plan, samples=self._source.length)

    @torch.no_grad()
    def _make_chunk(self) -> Latents:
        self._write_context()
        chunk = self.plan.at(self._next)
        tokens = self._speech.tokens(chunk.first_latent, chunk.latents).to(self._network.device)
        known = self._reference.channels(chunk.first_latent, chunk.latents).to(self._network.device)
        if chunk.index == 0:
            self._write_sink(self._reference.latent_BCTHW[:, :, :1].to(known), known, tokens)
        self._cache.begin_chunk(chunk.latents)
        x0 = self._denoise(chunk, known, tokens)
        check_finite(x0, chunk=chunk.index)
        self._context = _Context(x0, known, tokens)
        self._next += 1
        self._forget()
        return Latents(chunk.index, x0, chunk.first_frame, chunk.frames, chunk.skip, chunk.last)

    def _denoise(self, chunk: Chunk, known_BCTHW: Tensor, tokens_BTE: Tensor) -> Tensor:
        """The chunk's clean latents, (1, 16, T, H, W) float32."""
        shape = (1, LATENT_CHANNELS, chunk.latents, self.spec.latent_height, self.spec.latent_width)

        def velocity(x_BCTHW: Tensor, timestep: float, step: int) -> Tensor:
            self._cache.begin_pass(step)
            return self._network.velocity(
                torch.cat([x_BCTHW, known_BCTHW], dim=1),
                timestep=timestep,
                audio_tokens_BTE=tokens_BTE,
                cache=self._cache,
            )

        clamped = chunk.index == 0 and self._reference.clamp_first_latent
        return denoise_chunk(
            velocity,
            self._noise.initial(chunk.index, shape).to(known_BCTHW),
            schedule=self.spec.schedule,
            renoise=lambda step: self._noise.renoise(chunk.index, step, shape),
            clamp=self._reference.clamp if clamped else None,
            x0_dtype=getattr(torch, self.spec.profile.x0_dtype),
            on_step=self._on_step,
        )

    @torch.no_grad()
    def _write_context(self) -> None:
        """Finish the chunk before: its clean pass where the cache is of that kind, then it is history."""
        context = self._context
        if context is None:
            return
        if self.spec.cache_spec.mode == "clean":
            self._cache.begin_pass(CLEAN_PASS)
            self._clean_pass(context.x0_BCTHW, context.known_BCTHW, context.audio_tokens_BTE)
        self._cache.end_chunk()
        self._context = None
        if self._next == 1 and self.spec.cache_spec.sink_source == "reference_then_first_generated":
            self._write_sink(context.x0_BCTHW, context.known_BCTHW, context.audio_tokens_BTE)

    def _write_sink(self, x0_BCTHW: Tensor, known_BCTHW: Tensor, tokens_BTE: Tensor) -> None:
        """Put the first of these latents into a sink that is not made of the stream's own first latents.

        They stand for the start of the stream, with its conditioning channels and its audio.
        """
        spec = self.spec.cache_spec
        if spec.sink_source == "first_latents" or not spec.sink:
            return
        count = min(spec.sink, x0_BCTHW.shape[2])
        self._cache.begin_sink(count)
        self._clean_pass(x0_BCTHW[:, :, :count], known_BCTHW[:, :, :count], tokens_BTE[:, :count])
        self._cache.end_sink()

    def _clean_pass(self, x0_BCTHW: Tensor, known_BCTHW: Tensor, tokens_BTE: Tensor) -> None:
        """Run finished latents through the network for their keys and values."""
        self._network.velocity(
            torch.cat([x0_BCTHW, known_BCTHW], dim=1),
            timestep=self.spec.profile.context_timestep,
            audio_tokens_BTE=tokens_BTE,
            cache=self._cache,
        )

    def _needed_samples(self, index: int) -> tuple[int, int]:
        chunk = self.spec.clip_plan.at(index)
        return self._speech.needed_samples(chunk.first_latent, chunk.latents)

    def close(self) -> None:
        """End the stream; chunks() yields nothing more. Safe to call twice."""
        super().close()
        self._context = None

    def state_dict(self) -> dict[str, Any]:
        """Everything the stream remembers; a pending clean pass is run first."""
        self._write_context()
        return {
            "next": self._next,
            "cache": self._cache.state_dict(),
            "speech": self._speech.state_dict() if hasattr(self._speech, "state_dict") else {},
            "source": self._source.state_dict() if self._source is not None else {},
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue where state_dict() was taken, with the same spec, student, voice, reference and noise."""
        self._next, self._context, self._closed = int(state["next"]), None, False
        self._cache.load_state_dict(state["cache"])
        if state["speech"]:
            self._speech.load_state_dict(state["speech"])
        if self._source is not None:
            self._source.load_state_dict(state["source"])

    def reset(self) -> None:
        """Start the same stream again from its first chunk. Raises ValueError for a live voice."""
        if self._source is not None:
            raise ValueError("a live voice cannot be heard twice; open a new session for it")
        self._cache.reset()
        if hasattr(self._speech, "reset"):
            self._speech.reset()
        self._next, self._context, self._closed = 0, None, False


def _check(spec: StreamSpec, network: ChunkNetwork, cache: KVCache, reference: Conditioning) -> None:
    known = reference.channels(0, 1).shape[1]
    if network.in_dim != LATENT_CHANNELS + known:
        raise ValueError(
            f"the student takes {network.in_dim} input channels, this stream gives {LATENT_CHANNELS + known}: 33 "
            "are of a portrait, 65 of a video; load a student for what it starts from"
        )
    size = tuple(reference.latent_BCTHW.shape[-2:])
    if size != (spec.latent_height, spec.latent_width):
        raise ValueError(
            f"the reference's latent is {size[0]}x{size[1]}, the stream's "
            f"{spec.latent_height}x{spec.latent_width}; encode the picture at the stream's size"
        )
    if cache.spec != spec.cache_spec:
        raise ValueError("the KV cache was made for another CacheSpec; make it from the stream's own")
