"""Which frame of the video, and which generated mouth, each frame of the result shows: whole numbers only.

The result keeps the video's rate; the student makes 25 mouths a second. A result frame keeps its own picture and takes
the mouth that is nearest in time, above 30 frames a second a blend of the two around it. A voice longer than the video
plays it forward, backward, forward (0 .. n-1, n-2 .. 1, 0 ..); a shorter one ends it early.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from ..audio.rates import frame_count

MODEL_FPS = 25
BLENDED_ABOVE = 30  # frames a second


@dataclass(frozen=True)
class Mouths:
    """The generated frames that one frame of the result takes: first * (1 - weight) + second * weight."""

    first: int
    second: int
    weight: Fraction


@dataclass(frozen=True)
class ModelRun:
    """Model frames first .. stop - 1 that belong to one shot: each run starts with fresh caches."""

    first: int
    stop: int
    segment: int


@dataclass(frozen=True, eq=False)
class VideoClock:
    """sources_K: the source frame that each frame of one pass shows, at `fps`; segments_F: the shot of each of these.

    Build one with video_clock().
    """

    fps: Fraction
    sources_K: np.ndarray
    segments_F: np.ndarray
    model_fps: int = MODEL_FPS

    def output_frames(self, samples: int, sample_rate: int) -> int:
        """Frames of the result for a voice of this length: the nearest whole number, at least one."""
        return frame_count(samples, sample_rate, fps_num=self.fps.numerator, fps_den=self.fps.denominator)

    def source_of(self, frame: int) -> int:
        """The source frame that result frame `frame` shows, of a video that goes forward, backward, forward."""
        return int(self.sources_K[ping_pong(frame, len(self.sources_K))])

    def source_of_model(self, frame: int) -> int:
        """The source frame that model frame `frame` is made from: what the result shows nearest to its time."""
        return self.source_of(_nearest(frame * self.fps.numerator, self.model_fps * self.fps.denominator))

    def segment_of(self, frame: int) -> int:
        """The shot of result frame `frame`."""
        return int(self.segments_F[self.source_of(frame)])

    def segment_of_model(self, frame: int) -> int:
        """The shot of model frame `frame`."""
        return int(self.segments_F[self.source_of_model(frame)])

    def model_runs(self, frames: int) -> list[ModelRun]:
        """Model frames 0 .. frames - 1 in runs of one shot each."""
        runs: list[ModelRun] = []
        for frame in range(frames):
            segment = self.segment_of_model(frame)
            if runs and runs[-1].segment == segment:
                runs[-1] = ModelRun(runs[-1].first, frame + 1, segment)
            else:
                runs.append(ModelRun(frame, frame + 1, segment))
        return runs

    def mouths_of(self, frame: int, *, generated: int) -> Mouths | None:
        """The mouths of result frame `frame`, of `generated` ones in all; of its own shot only.

        None in a shot that is too short to hold a model frame: the picture stays as it is.
        """
        numerator, denominator = frame * self.model_fps * self.fps.denominator, self.fps.numerator
        before = min(numerator // denominator, generated - 1)
        after = min(before + 1, generated - 1)
        segment = self.segment_of(frame)
        fitting = [mouth for mouth in (before, after) if self.segment_of_model(mouth) == segment]
        if not fitting:
            return None
        if len(fitting) == 1 or before == after:
            return Mouths(fitting[0], fitting[0], Fraction(0))
        if self.fps <= BLENDED_ABOVE:
            nearest = min(_nearest(numerator, denominator), generated - 1)
            return Mouths(nearest, nearest, Fraction(0))
        weight = Fraction(numerator, denominator) - before
        return Mouths(before, after, weight) if weight else Mouths(before, before, weight)

    def ready(self, generated: int) -> int:
        """How many frames of the result need no model frame beyond the first `generated`.

        The last ones wait for the end of the voice: there the frames that are left take the last mouth.
        """
        if generated < 2:
            return 0
        # mouths_of looks at floor(t) and floor(t) + 1: it is settled where floor(t) + 1 <= generated - 1
        return -(-(generated - 1) * self.fps.numerator // (self.model_fps * self.fps.denominator))


def video_clock(
    ticks_F: np.ndarray,
    *,
    time_base: Fraction,
    fps: Fraction,
    segments_F: np.ndarray | None = None,
    model_fps: int = MODEL_FPS,
) -> VideoClock:
    """The clock of a video whose frames are shown at `ticks` of time_base seconds, played at a constant `fps`.

    A frame of the result shows what was on the screen at its time, give or take half its length: frames of a variable
    rate are repeated or left out. segments_F: shot numbers, by default one shot.
    """
    if not len(ticks_F) or fps <= 0:
        raise ValueError(
            f"got {len(ticks_F)} frames at {fps} fps; a video has one frame or more and a positive rate"
        )
    shown = np.asarray(ticks_F, dtype=np.int64) - int(ticks_F[0])
    segments = np.zeros(len(shown), np.int64) if segments_F is None else np.asarray(segments_F, np.int64)
    if len(segments) != len(shown):
        raise ValueError(f"got {len(segments)} shot numbers for {len(shown)} frames; expected one for each")
    # the times of source frames and of the middles of result frames, in units of 1 / (2 * tb.den * fps.num) seconds
    times = shown * (2 * time_base.numerator * fps.numerator)
    half = time_base.denominator * fps.denominator
    frames = max(1, int((times[-1] + half) // (2 * half)) + 1)
    middles = (2 * np.arange(frames, dtype=np.int64) + 1) * half
    sources = np.searchsorted(times, middles, side="left") - 1
    return VideoClock(Fraction(fps), np.maximum(sources, 0), segments, model_fps)


def ping_pong(frame: int, frames: int) -> int:
    """Place of `frame` in a clip of `frames` that goes 0 .. n-1, n-2 .. 1, 0 ..: the ends are shown once."""
    if frame < 0 or frames < 1:
        raise ValueError(f"got frame {frame} of {frames}; expected 0 or more, of at least 1")
    if frames == 1:
        return 0
    place = frame % (2 * frames - 2)
    return place if place < frames else 2 * frames - 2 - place


def _nearest(numerator: int, denominator: int) -> int:
    """To the nearest whole number, halves upwards."""
    return (2 * numerator + denominator) // (2 * denominator)
