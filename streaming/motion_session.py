"""One running stream of a student with motion frames: SoulX-FlashTalk, InfiniteTalk.

History is pictures, not keys and values: the last frames of a chunk, decoded, in the reference's colours, encoded
again. Their latents are put in clean before every step and after every update.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Any, Protocol

import torch
from torch import Tensor

from ..audio.sources import LiveSource
from ..samplers.few_step import denoise_chunk
from ..samplers.guidance import Branch, Guidance, GuidedVelocity
from ..samplers.noise import NoiseSource
from .colour import match_colours
from .motion import MotionChunk, MotionSpec, PictureCodec
from .reference import ClipConditioning
from .session import LATENT_CHANNELS


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


@dataclass(frozen=True, eq=False)
class Pictures:
    """A finished chunk. pictures: (1, 3, F, H, W) in [-1, 1], what is shown of it; latent: all of the chunk's.

    first_frame, frames: the frames of the video it holds.
    """

    index: int
    pictures_BCFHW: Tensor
    latent_BCTHW: Tensor
    first_frame: int
    frames: int
    last: bool


class MotionSession:
    """Runs a stream. Use as a context manager, or call close(); iterate chunks() in between.

    A chunk is handed out before its last pictures are encoded again, which happens when the next one is asked for.
    """

    def __init__(
        self,
        spec: MotionSpec,
        network: MotionNetwork,
        *,
        codec: PictureCodec,
        speech: ChunkSpeech,
        picture_BCHW: Tensor,
        conditioning: ClipConditioning,
        noise: NoiseSource,
        guidance: Guidance | None = None,
        masks_PL: Tensor | None = None,
        source: LiveSource | None = None,
        on_step: Callable[[int, Tensor], None] | None = None,
    ) -> None:
        """picture: the reference (1, 3, H, W) in [-1, 1] at the stream's size; conditioning: made from it.

        guidance: the profile's unless given. masks: of several speakers, as in SpeakerAudio. source: of a voice that
        arrives live, else None. on_step(step, x0): after every step; what it raises stops the stream. Raises
        ValueError where the parts do not fit together.
        """
        self.spec, self._network, self._codec = spec, network, codec
        self._speech, self._noise, self._on_step = speech, noise, on_step
        self._source = source
        self._picture_BCHW, self._conditioning, self._masks_PL = picture_BCHW, conditioning, masks_PL
        profile = spec.profile
        self._guidance = guidance or Guidance(text=profile.text_guidance, audio=profile.audio_guidance)
        self._tail_BCFHW: Tensor | None = None
        self._next = 0
        self._closed = False
        self._check()

    def __enter__(self) -> MotionSession:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def plan(self) -> MotionSpec:
        """The chunks to come; of a live voice, its length is known once finish() was called."""
        if self._source is None or self._source.length is None:
            return self.spec
        return replace(self.spec, samples=self._source.length)

    def push(self, samples_CS: Tensor) -> None:
        """More of a live voice, (C, S) at the spec's sample rate. Raises ValueError for a finished clip."""
        self._live_source().push(samples_CS)

    def finish(self) -> None:
        """The live voice ends here: chunks() goes on to its last frame."""
        self._live_source().close()

    def chunks(self) -> Iterator[Pictures]:
        """Every chunk that can be made now: to the end, or as far as a live voice has been heard."""
        while not self._closed and self._ready():
            yield self._make_chunk()

    def _ready(self) -> bool:
        """Is there another chunk, and has a live voice been heard as far as it needs?"""
        plan = self.plan
        if plan.chunks is not None:
            return self._next < plan.chunks
        stop = self._speech.chunk_samples(plan.at(self._next).heard, plan.chunk_frames)[1]
        return self._live_source().received >= stop

    def _live_source(self) -> LiveSource:
        if self._source is None:
            raise ValueError(
                "this stream has its whole voice already; open one with a LiveSource to push samples"
            )
        return self._source

    def _forget(self) -> None:
        """Let a live voice drop what no later chunk hears."""
        if self._source is not None:
            heard = self.spec.at(self._next).heard
            self._source.forget(self._speech.chunk_samples(heard, self.spec.chunk_frames)[0])

    @torch.no_grad()
    def _make_chunk(self) -> Pictures:
        chunk = self.plan.at(self._next)
        latent = self._denoise(chunk, self._motion().to(self._network.device))
        if not bool(torch.isfinite(latent).all()):
            raise ValueError(
                f"chunk {chunk.index} came out with NaN or infinite values; use a higher precision for the "
                "student, or check its file and the LoRAs on it"
            )
        decoded = self._codec.decode(latent).clamp(-1, 1)
        reference = self._picture_BCHW.to(decoded.device)
        pictures = match_colours(decoded, reference, strength=self.spec.profile.colour_match)
        self._tail_BCFHW = pictures[:, :, -self.spec.profile.motion_frames :].clone()
        self._next += 1
        self._forget()
        shown = pictures[:, :, chunk.skip : chunk.skip + chunk.frames]
        return Pictures(chunk.index, shown, latent, chunk.first_frame, chunk.frames, chunk.last)

    def _motion(self) -> Tensor:
        """Latents that the next chunk starts from: the reference alone, then the last pictures."""
        if self._tail_BCFHW is None:
            return self._codec.encode(self._picture_BCHW[:, :, None])
        return self._codec.encode(self._tail_BCFHW)

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

    def close(self) -> None:
        """End the stream; chunks() yields nothing more. Safe to call twice."""
        self._closed = True

    def state_dict(self) -> dict[str, Any]:
        """Everything the stream remembers."""
        tail = {} if self._tail_BCFHW is None else {"tail": self._tail_BCFHW.clone()}
        source = {} if self._source is None else self._source.state_dict()
        return {"next": self._next, "source": source, **tail}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue where state_dict() was taken, with the same spec, student, voices, reference and noise."""
        self._next, self._closed = int(state["next"]), False
        self._tail_BCFHW = state["tail"].clone() if "tail" in state else None
        if self._source is not None:
            self._source.load_state_dict(state["source"])

    def reset(self) -> None:
        """Start the same stream again from its first chunk. Raises ValueError for a live voice."""
        if self._source is not None:
            raise ValueError("a live voice cannot be heard twice; open a new session for it")
        self.load_state_dict({"next": 0})
