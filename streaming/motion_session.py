"""One running stream of a student with motion frames: SoulX-FlashTalk, InfiniteTalk.

History is pictures, not keys and values: the last frames of a chunk, decoded, in the reference's colours, encoded
again. Their latents are put in clean before every step and after every update.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Protocol

import torch
from torch import Tensor

from ..audio.sources import LiveSource
from ..samplers.few_step import denoise_chunk
from ..samplers.guidance import Branch, Guidance, GuidedVelocity
from ..samplers.noise import NoiseSource
from .motion import MotionChunk, MotionSpec
from .motion_pictures import ChunkPictures
from .reference import ClipConditioning
from .running import LATENT_CHANNELS, Latents, RunningStream, check_finite


class ChunkSpeech(Protocol):
    """The voices of a stream."""

    def chunk_tokens(self, first_frame: int, frames: int) -> Tensor:
        """Audio tokens of a chunk that starts with a latent of one frame: (1, T, P * M, E)."""
        ...

    def silent_tokens(self, frames: int) -> Tensor:
        """Tokens of a chunk without audio: (1, T, M, E)."""
        ...

    def chunk_samples(self, first_frame: int, frames: int) -> tuple[int, int]:
        """Native samples [start, stop) to have before chunk_tokens(); asked for a live voice only."""
        ...


class MotionNetwork(Protocol):
    """The student, wherever it lives."""

    @property
    def in_dim(self) -> int:
        """Input channels."""
        ...

    @property
    def device(self) -> torch.device:
        """Where its input belongs."""
        ...

    def velocity(
        self,
        x_BCTHW: Tensor,
        *,
        timestep: float,
        audio_tokens_BTE: Tensor,
        masks_PL: Tensor | None,
        negative: bool,
    ) -> Tensor:
        """Velocity (1, 16, T, H, W) of a whole chunk; negative: with the negative text."""
        ...


class MotionSession(RunningStream):
    """Runs a stream whose history is the last pictures of the chunk before.

    A chunk's latents are handed out before its pictures are needed here: they are decoded, and the last of them
    encoded again, when the next chunk is asked for. Everything the stream remembers is in state_dict().
    """

    def __init__(
        self,
        spec: MotionSpec,
        network: MotionNetwork,
        *,
        pictures: ChunkPictures,
        speech: ChunkSpeech,
        conditioning: ClipConditioning,
        noise: NoiseSource,
        guidance: Guidance | None = None,
        masks_PL: Tensor | None = None,
        source: LiveSource | None = None,
        on_step: Callable[[int, Tensor], None] | None = None,
    ) -> None:
        """pictures: of the reference at the stream's size, which conditioning is made from too.

        guidance: the profile's unless given. masks: of several speakers, as in SpeakerAudio. source: of a voice that
        arrives live, else None. on_step(step, x0): after every step; what it raises stops the stream. Raises
        ValueError where the parts do not fit together.
        """
        super().__init__(source)
        self.spec, self._network, self.pictures = spec, network, pictures
        self._speech, self._noise, self._on_step = speech, noise, on_step
        self._conditioning, self._masks_PL = conditioning, masks_PL
        profile = spec.profile
        self._guidance = guidance or Guidance(text=profile.text_guidance, audio=profile.audio_guidance)
        self._newest_BCTHW: Tensor | None = None
        self._check()

    @property
    def plan(self) -> MotionSpec:
        """The chunks to come; of a live voice, its length is known once finish() was called."""
        if self._source is None or self._source.length is None:
            return self.spec
        return replace(self.spec, samples=self._source.length)

    def _needed_samples(self, index: int) -> tuple[int, int]:
        return self._speech.chunk_samples(self.spec.at(index).heard, self.spec.chunk_frames)

    @torch.no_grad()
    def _make_chunk(self) -> Latents:
        chunk = self.plan.at(self._next)
        motion = self.pictures.motion(self._newest_BCTHW, frames=self.spec.profile.motion_frames)
        latent = self._denoise(chunk, motion.to(self._network.device))
        check_finite(latent, chunk=chunk.index)
        self._newest_BCTHW = latent
        self._next += 1
        self._forget()
        return Latents(chunk.index, latent, chunk.first_frame, chunk.frames, chunk.skip, chunk.last)

    def _denoise(self, chunk: MotionChunk, motion_BCTHW: Tensor) -> Tensor:
        """The chunk's clean latents, (1, 16, T, H, W), its motion latents in front."""
        spec, device = self.spec, self._network.device
        known = self._conditioning.channels(0, chunk.latents).to(device)
        tokens = self._speech.chunk_tokens(chunk.heard, spec.chunk_frames).to(device)
        silent = None
        if len(self._guidance.branches) > 1:
            silent = self._speech.silent_tokens(spec.chunk_frames).to(device)
        shape = (1, LATENT_CHANNELS, chunk.latents, spec.latent_height, spec.latent_width)

        def velocity(x_BCTHW: Tensor, timestep: float, step: int, branch: Branch) -> Tensor:
            unheard = branch in ("drop_audio", "uncond")
            return self._network.velocity(
                torch.cat([x_BCTHW, known], dim=1),
                timestep=timestep,
                audio_tokens_BTE=silent if unheard else tokens,
                masks_PL=None if unheard else self._masks_PL,
                negative=branch in ("drop_text", "uncond"),
            )

        def renoise(step: int) -> Tensor:
            return self._noise.renoise(chunk.index, step, shape)

        return denoise_chunk(
            GuidedVelocity(velocity, self._guidance),
            self._noise.initial(chunk.index, shape).to(known),
            schedule=spec.schedule,
            renoise=None if spec.profile.sampler == "euler" else renoise,
            clamp=lambda x: torch.cat([motion_BCTHW.to(x), x[:, :, chunk.motion :]], dim=2),
            x0_dtype=getattr(torch, spec.profile.x0_dtype),
            on_step=self._on_step,
        )

    def _check(self) -> None:
        spec, known = self.spec, self._conditioning.channels(0, 1)
        if self._network.in_dim != LATENT_CHANNELS + known.shape[1]:
            raise ValueError(
                f"the student takes {self._network.in_dim} input channels, a portrait gives "
                f"{LATENT_CHANNELS + known.shape[1]}; load a MultiTalk student"
            )
        size, wanted = tuple(known.shape[-2:]), (spec.latent_height, spec.latent_width)
        if size != wanted:
            raise ValueError(
                f"the reference's latent is {size[0]}x{size[1]}, the stream's {wanted[0]}x{wanted[1]}; encode the "
                "picture at the stream's size"
            )

    def state_dict(self) -> dict[str, Any]:
        """Everything the stream remembers."""
        newest = {} if self._newest_BCTHW is None else {"newest": self._newest_BCTHW.clone()}
        source = {} if self._source is None else self._source.state_dict()
        return {"next": self._next, "source": source, **newest}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue where state_dict() was taken, with the same spec, student, voices, reference and noise."""
        self._next, self._closed = int(state["next"]), False
        self._newest_BCTHW = state["newest"].to(self._network.device) if "newest" in state else None
        if self._source is not None:
            self._source.load_state_dict(state["source"])

    def reset(self) -> None:
        """Start the same stream again from its first chunk. Raises ValueError for a live voice."""
        if self._source is not None:
            raise ValueError("a live voice cannot be heard twice; open a new session for it")
        self.load_state_dict({"next": 0})
