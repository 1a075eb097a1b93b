"""A stream in segments: shots of a video, each with a fresh past, numbered through as one row of chunks."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate

from ..audio.rates import sample_at_frame
from .chunks import Chunk, ChunkPlan


@dataclass(frozen=True)
class Segment:
    """Frames first_frame .. first_frame + frames - 1 of a stream, which know nothing of those before them."""

    first_frame: int
    frames: int


@dataclass(frozen=True)
class SegmentPlan:
    """The chunks of all segments in a row. frames: of the whole stream; those in no segment are never made.

    chunk, fps_num, fps_den, sample_rate: as in ChunkPlan.
    """

    segments: tuple[Segment, ...]
    frames: int
    chunk: int
    fps_num: int
    fps_den: int
    sample_rate: int

    @cached_property
    def _ends(self) -> tuple[int, ...]:
        """Chunks up to the end of each segment."""
        return tuple(accumulate(self.plan_of(number).chunks for number in range(len(self.segments))))

    @property
    def chunks(self) -> int:
        """Chunks in all."""
        return self._ends[-1] if self._ends else 0

    def samples_of(self, number: int) -> int:
        """Samples of the voice that a segment lasts."""
        return self._sample(self.segments[number].frames)

    def first_sample(self, number: int) -> int:
        """The sample of the voice that a segment begins with."""
        return self._sample(self.segments[number].first_frame)

    def plan_of(self, number: int) -> ChunkPlan:
        """The chunks of one segment, counted from its own beginning."""
        return ChunkPlan(
            chunk=self.chunk,
            fps_num=self.fps_num,
            fps_den=self.fps_den,
            sample_rate=self.sample_rate,
            samples=self.samples_of(number),
        )

    def segment_at(self, index: int) -> int:
        """The segment of a chunk."""
        return bisect_right(self._ends, index)

    def starts_segment(self, index: int) -> bool:
        """Whether a chunk is the first of its segment."""
        return index == 0 or index in self._ends

    def at(self, index: int) -> Chunk:
        """Chunk number `index` of all; its latents are counted in its segment. Raises ValueError beyond the end."""
        if not 0 <= index < self.chunks:
            raise ValueError(f"got chunk {index}; this stream has {self.chunks} chunks, counted from 0")
        number = self.segment_at(index)
        before = self._ends[number - 1] if number else 0
        own = self.plan_of(number).at(index - before)
        return Chunk(
            index=index,
            first_latent=own.first_latent,
            latents=own.latents,
            first_frame=self.segments[number].first_frame + own.first_frame,
            frames=own.frames,
            skip=own.skip,
            last=index + 1 == self.chunks,
        )

    def _sample(self, frame: int) -> int:
        return sample_at_frame(frame, self.sample_rate, fps_num=self.fps_num, fps_den=self.fps_den)
