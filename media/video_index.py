"""When each frame of a video file is shown, and where decoding can start: read from its packets, nothing decoded."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from av.container import InputContainer
from av.video.stream import VideoStream

STANDARD_RATES = tuple(
    Fraction(rate) for rate in ("24000/1001", "24", "25", "30000/1001", "30", "48", "50", "60000/1001", "60")
)
SAME_RATE = Fraction(1, 1000)  # a container's rounded rate still means the standard one
NEAR_RATE = Fraction(1, 20)  # and so does the usual interval of a variable one
SLOWEST_SECONDS = 60  # per frame, on average: times beyond are damage
JITTER = 0.3  # of an interval: what a constant rate may stray from its grid


@dataclass(frozen=True, eq=False)
class VideoIndex:
    """ticks: (F,) int64, rising, when each frame is shown; keys: (F,) bool, where decoding can start.

    ticks count time_base seconds each. fps: the constant rate of the file, or the usual one of a variable rate.
    """

    ticks: np.ndarray
    keys: np.ndarray
    time_base: Fraction
    fps: Fraction
    constant: bool

    @property
    def frames(self) -> int:
        """How many frames the packets hold."""
        return len(self.ticks)

    def seconds(self, frame: int) -> Fraction:
        """When a frame is shown, the first one at 0."""
        return int(self.ticks[frame] - self.ticks[0]) * self.time_base

    def frame_at(self, tick: int) -> int:
        """The frame whose time is nearest to a decoder's."""
        after = int(np.searchsorted(self.ticks, tick))
        if after == 0:
            return 0
        if after == len(self.ticks) or tick - self.ticks[after - 1] <= self.ticks[after] - tick:
            return after - 1
        return after

    def key_before(self, frame: int) -> int:
        """The last frame at or before this one that decoding can start from."""
        starts = np.flatnonzero(self.keys[: frame + 1])
        return int(starts[-1]) if len(starts) else 0


def index_video(
    container: InputContainer, stream: VideoStream, *, start_seconds: float = 0.0, seconds: float = 0.0
) -> VideoIndex:
    """Reads every packet of the stream once. The window is start_seconds long from the start; seconds 0: to the end.

    Raises ValueError where no frame is left.
    """
    shown: dict[int, bool] = {}
    for packet in container.demux(stream):
        tick = packet.pts if packet.pts is not None else packet.dts
        if tick is not None and packet.size and not packet.is_discard:
            shown[tick] = shown.get(tick, False) or packet.is_keyframe
    time_base = Fraction(stream.time_base)
    first = int(start_seconds / time_base)
    stop = int((start_seconds + seconds) / time_base) if seconds else None
    ticks = sorted(tick for tick in shown if tick >= first and (stop is None or tick < stop))
    if not ticks:
        raise ValueError("no frame of it can be shown: it is broken, or its trim leaves nothing")
    span = (ticks[-1] - ticks[0]) * time_base
    if span > SLOWEST_SECONDS * len(ticks):
        raise ValueError(f"its {len(ticks)} frames claim to last {float(span) / 3600:.0f} hours")
    ticks_F = np.asarray(ticks, dtype=np.int64)
    declared = Fraction(stream.average_rate) if stream.average_rate else None
    fps, constant = frame_rate(ticks_F, time_base, declared=declared)
    return VideoIndex(ticks_F, np.asarray([shown[tick] for tick in ticks]), time_base, fps, constant)


def frame_rate(
    ticks_F: np.ndarray, time_base: Fraction, *, declared: Fraction | None
) -> tuple[Fraction, bool]:
    """The rate of these times, and whether they keep to it: the declared or measured one where they do.

    For a variable rate the commonest interval counts, moved to a standard rate that is within 5 %, 60 at most.
    """
    if len(ticks_F) < 2:
        return declared or Fraction(25), True
    span = int(ticks_F[-1] - ticks_F[0]) * time_base
    measured = (len(ticks_F) - 1) / span
    for rate in (rate for rate in (declared, measured) if rate is not None):
        for candidate in (_standard(rate, SAME_RATE), rate.limit_denominator(1001)):
            if candidate is not None and _keeps_to(ticks_F, time_base, candidate):
                return candidate, True
    usual = 1 / (int(np.median(np.diff(ticks_F))) * time_base)
    rate = _standard(usual, NEAR_RATE) or Fraction(max(1, round(usual)))
    return min(rate, Fraction(60)), False


def _keeps_to(ticks_F: np.ndarray, time_base: Fraction, rate: Fraction) -> bool:
    step = float(1 / (rate * time_base))
    grid = np.arange(len(ticks_F)) * step
    return bool(np.abs((ticks_F - ticks_F[0]) - grid).max() <= max(1.0, JITTER * step))


def _standard(rate: Fraction, within: Fraction) -> Fraction | None:
    nearest = min(STANDARD_RATES, key=lambda standard: abs(standard - rate))
    return nearest if abs(nearest - rate) <= within * nearest else None
