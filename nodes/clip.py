"""Behind Chunk Sampler: a short clip made chunk by chunk inside core's SamplerCustomAdvanced."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from ..audio.rates import latents_for_frames
from ..samplers.noise import GivenNoise, SeededNoise
from ..streaming.running import LATENT_CHANNELS
from .budget import check_memory, plan_clip_memory, stream_bytes
from .host import memory, progress
from .host.guided import ClipSampler, GuidedNetwork, SamplerCall, empty_latent
from .plan import changed_cache, stream_of
from .sessions import open_session
from .stages import SAMPLER, stage
from .types import CacheChoice, Reference, Speech, Stream
from .voice import shown_frames

logger = logging.getLogger(__name__)

PADDING = 1
"""Segment of the noise behind the clip's end: its last chunk is as long as the others."""


@dataclass(frozen=True, eq=False)
class Clip:
    """Everything about a clip that does not come through the guider."""

    speech: Speech
    reference: Reference
    cache: CacheChoice | None

    def sample(self, call: SamplerCall) -> Tensor:
        """The clip's latents, (1, 16, T, H, W), from the noise of the call."""
        stream = stream_of(
            call.guider.model_patcher,
            self.speech,
            self.reference,
            text_BMD=None,
            sigmas=call.sigmas,
            cache=self.cache,
            seed=call.seed,
        )
        logger.info("%s", plan_clip_memory(stream))
        check_memory(stream, partial(plan_clip_memory, stream))
        memory.load_together(stream.get_models(), extra_bytes=stream_bytes(stream))
        with GuidedNetwork(call, reads_text=stream.profile.text != "null") as network:
            return run_clip(stream, network, call)


def plan_clip(
    speech: Speech, reference: Reference, cache: CacheChoice | None
) -> tuple[ClipSampler, dict[str, Tensor]]:
    """The SAMPLER of a clip and the empty LATENT it fills. Raises ValueError for a cache that does not fit."""
    profile = speech.profile
    if profile.family != "audiopack":
        raise ValueError(
            f"Chunk Sampler cannot make clips with the student {profile.name!r}; connect its MODEL to Stream Chunks"
        )
    changed_cache(profile.cache_spec, cache or CacheChoice(), steps=profile.steps)
    latents = latents_for_frames(shown_frames(speech) + profile.discarded_first_frames)
    shape = (1, LATENT_CHANNELS, latents, *reference.latent_BCTHW.shape[-2:])
    sampler = ClipSampler(Clip(speech, reference, cache).sample, shape=shape, models=speech.get_models)
    return sampler, empty_latent(shape)


def run_clip(stream: Stream, network: GuidedNetwork, call: SamplerCall) -> Tensor:
    """Every chunk; what lies behind the clip's end is cut off."""
    progress_of_clip = ClipProgress(stream, call)
    noise = GivenNoise(padded_noise(stream, call), renoises=SeededNoise(call.seed))
    session = open_session(stream, network, noise=noise, on_step=progress_of_clip.on_step)
    with session:
        made = session.chunks()
        for chunk in range(stream.spec.chunks):
            with stage(SAMPLER, None, chunk=chunk):
                progress_of_clip.latents.append(next(made).latent_BCTHW)
    return progress_of_clip.whole()


def padded_noise(stream: Stream, call: SamplerCall) -> Tensor:
    """The given noise, and seeded noise behind it up to the end of the last chunk."""
    noise = call.noise_BCTHW
    missing = stream.spec.chunks * stream.spec.cache_spec.chunk - noise.shape[2]
    if not missing:
        return noise
    shape = (*noise.shape[:2], missing, *noise.shape[3:])
    return torch.cat([noise, SeededNoise(call.seed, segment=PADDING).initial(0, shape).to(noise)], dim=2)


class ClipProgress:
    """Finished chunks, and core's callback after every step."""

    def __init__(self, stream: Stream, call: SamplerCall) -> None:
        self.latents: list[Tensor] = []
        self._call, self._length = call, call.noise_BCTHW.shape[2]
        self._steps = stream.spec.schedule.steps
        self._total = stream.spec.chunks * self._steps

    def whole(self, newest: Tensor | None = None) -> Tensor:
        """The clip so far, cut to its length."""
        latents = self.latents if newest is None else [*self.latents, newest]
        return torch.cat(latents, dim=2)[:, :, : self._length]

    def on_step(self, step: int, x0_BCTHW: Tensor) -> None:
        """Stops where the user asked to. Core previews the first latent it is shown: that is the newest one.

        The last call shows the whole clip, because core keeps it as its second output.
        """
        progress.stop_if_asked()
        done = len(self.latents) * self._steps + step
        if self._call.callback is not None:
            shown = self.whole(x0_BCTHW) if done + 1 == self._total else x0_BCTHW[:, :, -1:]
            self._call.callback(done, shown, shown, self._total)
