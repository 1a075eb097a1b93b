"""How fast a stream comes: the line of text on the node that writes it."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from fractions import Fraction

RECENT_CHUNKS = 16


class Pace:
    """Counts frames against the clock, from the moment the run begins."""

    def __init__(self, frames: int, fps: Fraction, *, clock: Callable[[], float] = time.monotonic) -> None:
        """frames: of the whole stream."""
        self._frames, self._fps, self._clock = frames, fps, clock
        self._started = clock()
        self._first: float | None = None
        self._recent: deque[tuple[float, int]] = deque([(self._started, 0)], maxlen=RECENT_CHUNKS)

    def made(self, done: int) -> None:
        """So many frames are finished now."""
        now = self._clock()
        if self._first is None and done:
            self._first = now - self._started
        self._recent.append((now, done))

    def line(self) -> str:
        """While the stream runs. Speed and time left are those of the last chunks."""
        (since, before), (now, done) = self._recent[0], self._recent[-1]
        speed = (done - before) / max(1e-6, now - since)
        left = (self._frames - done) / max(1e-6, speed)
        return f"{done} of {self._frames} frames, {self._speed(speed)}, {duration(left)} left"

    def summary(self) -> str:
        """When it has ended. Speed is that of the whole run."""
        now, done = self._clock(), self._recent[-1][1]
        seconds = max(1e-6, now - self._started)
        return (
            f"{done} frames, {float(done / self._fps):.2f} s, made in {duration(seconds)}, "
            f"{self._speed(done / seconds)}"
        )

    def _speed(self, frames_per_second: float) -> str:
        first = "" if self._first is None else f", first frame after {self._first:.1f} s"
        return f"{frames_per_second:.1f} fps, {frames_per_second / float(self._fps):.2f}x real time{first}"


def duration(seconds: float) -> str:
    """12 s, 3:05, 1:02:03."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    hours, minutes = whole // 3600, whole // 60 % 60
    return f"{hours}:{minutes:02}:{whole % 60:02}" if hours else f"{minutes}:{whole % 60:02}"
