"""What a stream is, before it runs: a frozen description of everything that decides its latents' shape."""

from __future__ import annotations

from dataclasses import dataclass, replace

from ..networks.cache_spec import CacheSpec
from ..networks.profile import StudentProfile
from ..samplers.schedule import Schedule
from .chunks import ChunkPlan
from .segments import Segment, SegmentPlan


@dataclass(frozen=True)
class StreamSpec:
    """One stream of one student.

    schedule, cache_spec: as trained, or as the user changed them. latent_height, latent_width: of the grid the
    VAE makes (pixels / 8). samples: of the voice at sample_rate, or None for a voice that arrives live.
    segments: of a stream that follows a video, its parts that are made; None for one that starts from a portrait.
    """

    profile: StudentProfile
    schedule: Schedule
    cache_spec: CacheSpec
    latent_height: int
    latent_width: int
    samples: int | None
    sample_rate: int
    segments: tuple[Segment, ...] | None = None

    def __post_init__(self) -> None:
        """Raises ValueError for parts that do not belong together."""
        if self.cache_spec.steps != self.schedule.steps and self.cache_spec.mode == "per_step":
            raise ValueError(
                f"the schedule has {self.schedule.steps} steps and the KV cache {self.cache_spec.steps}; "
                "a per-step cache needs one for each step"
            )
        if self.latent_height % 2 or self.latent_width % 2:
            raise ValueError(
                f"the latent is {self.latent_height}x{self.latent_width}; both sides must be even: "
                "choose a picture size in multiples of 16"
            )

    @property
    def plan(self) -> ChunkPlan | SegmentPlan:
        """Chunks, latents and frames of the stream."""
        whole = self.clip_plan
        if self.segments is None:
            return whole
        rates = {"fps_num": whole.fps_num, "fps_den": whole.fps_den, "sample_rate": self.sample_rate}
        return SegmentPlan(self.segments, frames=whole.frames, chunk=whole.chunk, **rates)

    @property
    def clip_plan(self) -> ChunkPlan:
        """The plan of a stream without a break."""
        profile = self.profile
        return ChunkPlan(
            chunk=self.cache_spec.chunk,
            fps_num=profile.fps_num,
            fps_den=profile.fps_den,
            sample_rate=self.sample_rate,
            samples=self.samples,
            discarded=profile.discarded_first_frames,
        )

    def of_segment(self, number: int) -> StreamSpec:
        """One segment as a stream of its own, whose voice begins with it."""
        return replace(self, segments=None, samples=self.plan.samples_of(number))

    @property
    def frames(self) -> int | None:
        """Frames that the stream shows in all; None for a live voice."""
        return self.plan.frames

    @property
    def chunks(self) -> int | None:
        """Chunks of the stream; None for a live voice."""
        return self.plan.chunks

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of tokens per latent frame."""
        return self.latent_height // 2, self.latent_width // 2
