"""Single frames of a video in any order, backwards too, in bounded memory."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator

import numpy as np

from .video_source import Source, SourceFrame

HELD_BYTES = 256 * 2**20


class FrameReader:
    """Gives frames by number.

    Going on decodes on and keeps one picture; going back decodes from a key frame and keeps what it passes.
    A stretch between key frames that is too long for the memory is decoded again in pieces, from its end.
    """

    def __init__(self, source: Source, *, held_bytes: int = HELD_BYTES) -> None:
        """held_bytes: pictures kept for the way back, one at least."""
        self._source = source
        size = source.width * source.height * 3
        self._held: deque[SourceFrame] = deque(maxlen=max(1, held_bytes // size))
        self._stream: Iterator[SourceFrame] | None = None
        self._next = 0

    def picture(self, index: int) -> np.ndarray:
        """(H, W, 3) uint8 of one frame. Raises ValueError for a number the video does not have."""
        if not 0 <= index < self._source.index.frames:
            raise ValueError(f"got frame {index}; the video has frames 0 to {self._source.index.frames - 1}")
        held = self._held_at(index)
        if held is not None:
            return held
        back = self._stream is not None and index < self._next
        if back:
            self._restart(max(self._source.index.key_before(index), index - self._held.maxlen + 1))
        elif self._stream is None or self._source.index.key_before(index) > self._next:
            self._restart(index)
        for frame in self._stream:
            if not back:
                self._held.clear()  # going on, nothing behind is needed
            self._held.append(frame)
            self._next = frame.index + 1
            if frame.index == index:
                return frame.picture
        raise ValueError(f"frame {index} of the video cannot be read; it ends before")

    def pictures(self, indices: Iterable[int]) -> Iterator[np.ndarray]:
        """The frames of these numbers, one after another."""
        return (self.picture(index) for index in indices)

    def close(self) -> None:
        """Lets go of the file and of the pictures."""
        self._stream = None
        self._held.clear()

    def _held_at(self, index: int) -> np.ndarray | None:
        if not self._held or not self._held[0].index <= index <= self._held[-1].index:
            return None
        return self._held[index - self._held[0].index].picture

    def _restart(self, start: int) -> None:
        self._held.clear()
        self._stream, self._next = self._source.frames(start), start
