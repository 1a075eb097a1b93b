"""Streams without a KV cache: each chunk starts from the last pictures of the chunk before. Their plan and parts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from ..audio.rates import frame_count, frames_in_latents, latents_for_frames
from ..networks.causal_vae import CausalVAE, denormalise_latents, normalise_latents
from ..networks.profile import StudentProfile
from ..samplers.schedule import Schedule
from .decoder import StreamingDecoder
from .reference import ClipConditioning


@dataclass(frozen=True)
class MotionChunk:
    """One chunk, decoded by itself. Frames are counted from the first one that is shown.

    heard: first frame of the chunk, shown or not; below 0 before the clip. latents: of the chunk; motion: of them,
    how many are given. first_frame, frames: what is shown of it, after `skip` pictures that are not.
    """

    index: int
    heard: int
    latents: int
    motion: int
    first_frame: int
    frames: int
    skip: int
    last: bool


@dataclass(frozen=True)
class MotionSpec:
    """One stream of a student with motion frames.

    samples: of the voice at sample_rate, or None for a voice that arrives live. latent_height, latent_width: of the
    grid the VAE makes (pixels / 8). The last chunk is as long as the others; what it makes beyond the voice's end is
    cut off.
    """

    profile: StudentProfile
    schedule: Schedule
    latent_height: int
    latent_width: int
    samples: int | None
    sample_rate: int

    def __post_init__(self) -> None:
        """Raises ValueError for a student without motion frames and for a size that makes no whole tokens."""
        profile = self.profile
        if not profile.motion_frames:
            raise ValueError(f"the student {profile.name!r} has no motion frames; it streams with a KV cache")
        if profile.discarded_first_frames not in (0, profile.motion_frames):
            raise ValueError(
                f"discarded_first_frames is {profile.discarded_first_frames}; a student with motion frames "
                f"discards none at the start or all {profile.motion_frames}"
            )
        if self.latent_height % 2 or self.latent_width % 2:
            raise ValueError(
                f"the latent is {self.latent_height}x{self.latent_width}; both sides must be even: "
                "choose a picture size in multiples of 16"
            )

    @property
    def frames(self) -> int | None:
        """Frames that the stream shows in all; None for a live voice."""
        if self.samples is None:
            return None
        profile = self.profile
        return frame_count(self.samples, self.sample_rate, fps_num=profile.fps_num, fps_den=profile.fps_den)

    @property
    def plan(self) -> MotionSpec:
        """The chunks of the stream: this."""
        return self

    @property
    def chunk_frames(self) -> int:
        """Frames of a chunk, its motion frames included."""
        return frames_in_latents(self.profile.chunk)

    @property
    def stride(self) -> int:
        """New frames per chunk."""
        return self.chunk_frames - self.profile.motion_frames

    @property
    def chunks(self) -> int | None:
        """Chunks of the stream; None for a live voice."""
        if self.frames is None:
            return None
        later = self.frames - (self.chunk_frames - self.profile.discarded_first_frames)
        return 1 + max(0, -(-later // self.stride))

    @property
    def heard_frames(self) -> int | None:
        """Frames from the clip's start to the end of the last chunk, shown or not; None for a live voice."""
        return None if self.chunks is None else self.at(self.chunks - 1).heard + self.chunk_frames

    def at(self, index: int) -> MotionChunk:
        """Chunk number `index`. Raises ValueError beyond the end."""
        if index < 0 or (self.chunks is not None and index >= self.chunks):
            raise ValueError(f"got chunk {index}; this stream has {self.chunks} chunks, counted from 0")
        motion, discarded = self.profile.motion_frames, self.profile.discarded_first_frames
        heard = self.stride * index - discarded
        skip = discarded if index == 0 else motion
        first, made = heard + skip, self.chunk_frames - skip
        return MotionChunk(
            index=index,
            heard=heard,
            latents=self.profile.chunk,
            motion=1 if index == 0 else latents_for_frames(motion),
            first_frame=first,
            frames=made if self.frames is None else min(made, self.frames - first),
            skip=skip,
            last=index + 1 == self.chunks,
        )


class PictureCodec(Protocol):
    """A VAE as a stream with motion frames needs it: every call starts a clip of its own."""

    def encode(self, video_BCFHW: Tensor) -> Tensor:
        """(1, 3, 4n + 1, H, W) in [-1, 1] -> normalised latents (1, 16, n + 1, H / 8, W / 8)."""
        ...

    def decode(self, latents_BCTHW: Tensor) -> Tensor:
        """Normalised latents -> (1, 3, 4T - 3, H, W), about [-1, 1]."""
        ...


class LocalCodec:
    """Our CausalVAE as a PictureCodec."""

    def __init__(self, vae: CausalVAE) -> None:
        self._vae, self._decoder = vae, StreamingDecoder(vae)

    @torch.no_grad()
    def encode(self, video_BCFHW: Tensor) -> Tensor:
        """Pictures to normalised latents."""
        return normalise_latents(self._vae.encode(video_BCFHW))

    def decode(self, latents_BCTHW: Tensor) -> Tensor:
        """Normalised latents to pictures, one latent at a time."""
        self._decoder.reset()
        return self._decoder.decode(denormalise_latents(latents_BCTHW))


def encode_conditioning(picture_BCHW: Tensor, codec: PictureCodec, *, latents: int) -> ClipConditioning:
    """The conditioning of a portrait: (1, 3, H, W) in [-1, 1] and mid-grey behind it, encoded in one go."""
    grey = picture_BCHW.new_zeros(
        *picture_BCHW.shape[:2], frames_in_latents(latents) - 1, *picture_BCHW.shape[2:]
    )
    return ClipConditioning(codec.encode(torch.cat([picture_BCHW[:, :, None], grey], dim=2)))
