"""The chunk plan of a stream, in whole numbers: latents, frames, and which of them are kept."""

from __future__ import annotations

from dataclasses import dataclass

from ..audio.rates import frame_count, latent_frames, latents_for_frames


@dataclass(frozen=True)
class Chunk:
    """One chunk of a stream. Frames are counted from the first one that is shown.

    index: 0, 1, ...; first_latent, latents: what is denoised together; frames: frames that are shown;
    skip: decoded frames before them that are not; last: whether the stream ends here.
    """

    index: int
    first_latent: int
    latents: int
    first_frame: int
    frames: int
    skip: int
    last: bool


@dataclass(frozen=True)
class ChunkPlan:
    """How a voice of known or still unknown length is cut into chunks.

    samples: of the voice at sample_rate, or None while it is still arriving (then no chunk is the last).
    discarded: decoded frames at the start that are never shown.
    The last chunk is as long as the others; what it makes beyond the voice's end is cut off.
    """

    chunk: int
    fps_num: int
    fps_den: int
    sample_rate: int
    samples: int | None
    discarded: int = 0

    @property
    def frames(self) -> int | None:
        """Frames shown in all: the voice's length to the nearest frame, at least one."""
        if self.samples is None:
            return None
        return frame_count(self.samples, self.sample_rate, fps_num=self.fps_num, fps_den=self.fps_den)

    @property
    def chunks(self) -> int | None:
        """Chunks in all, None while the voice is still arriving."""
        if self.frames is None:
            return None
        return -(-latents_for_frames(self.frames + self.discarded) // self.chunk)

    def at(self, index: int) -> Chunk:
        """Chunk number `index`. Raises ValueError beyond the end."""
        if index < 0 or (self.chunks is not None and index >= self.chunks):
            raise ValueError(f"got chunk {index}; this stream has {self.chunks} chunks, counted from 0")
        first_latent = index * self.chunk
        decoded = latent_frames(first_latent, self.chunk)
        start = max(decoded.start - self.discarded, 0)
        stop = max(decoded.stop - self.discarded, start)
        if self.frames is not None:
            stop = min(stop, self.frames)
        return Chunk(
            index=index,
            first_latent=first_latent,
            latents=self.chunk,
            first_frame=start,
            frames=stop - start,
            skip=start + self.discarded - decoded.start,
            last=index + 1 == self.chunks,
        )
